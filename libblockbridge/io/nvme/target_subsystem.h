// SPDX-License-Identifier: Apache-2.0
// pure: what a target publishes
#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "io/nvme/command.h"
#include "io/nvme/target_limits.h"
#include "io/nvme/target_reservation.h"
#include "io/nvme/target_security.h"
#include "io/range_lock.h"

namespace bb::io {
class Device;
}

namespace bb::io::nvme {

class ReservationStore;

// Asked at every Connect of a subsystem. FENCED and PERMISSION_DENIED refuse for good; BUSY and
// UNAVAILABLE tell the host to try again.
class Admission {
 public:
  virtual Status admit(const HostIdentity& host) = 0;

 protected:
  ~Admission() = default;
};

struct Geometry {
  uint64_t block_count = 0;
  uint32_t block_bytes = 512;
  uint32_t physical_block_bytes = 512;
  uint32_t transfer_max_bytes = 1u << 20;
  bool read_only = false;
  bool volatile_cache = false;
  bool discard = false;

  bool holds(uint64_t first_block, uint64_t blocks) const {
    return first_block < block_count && blocks <= block_count - first_block;
  }
};

struct Counters {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t errors = 0;  // commands answered with an error
  uint64_t digest_errors = 0;

  Counters& operator+=(const Counters& more);
};

struct NamespaceConfig {
  uint32_t nsid = 0;  // 0: the lowest that is free
  Uuid uuid;
  Device* device = nullptr;  // borrowed; only the driver looks at it
  bool read_only = false;    // whatever the device says
  Geometry geometry;
  uint32_t ana_group = 1;
  // Where its reservation outlives the target; borrowed, only the driver looks at it. Null:
  // nowhere.
  ReservationStore* reservation_store = nullptr;
  ReservationState reservation;  // as the store has it
};

// One device as the hosts of a subsystem see it. Whoever works on one of its commands holds it, so
// it outlives its removal by what the device still has of it.
struct Namespace : boost::intrusive_ref_counter<Namespace, boost::thread_unsafe_counter> {
  uint32_t nsid = 0;
  Uuid uuid;
  Device* device = nullptr;
  bool read_only = false;  // whatever the device says
  Geometry geometry;
  uint32_t ana_group = 1;
  // The controllers told their hosts that there is no volatile cache: every write is a durable one.
  bool write_through = false;
  bool removed = false;       // nothing new of it reaches the device
  uint32_t awaited = 0;       // who waits for I/O with the device to end
  uint32_t io_in_flight = 0;  // with the device
  Counters counters;
  ReservationStore* reservation_store = nullptr;
  std::unique_ptr<NamespaceReservation> reservation;  // never null
  RangeLock writes;  // shared by writes, alone for a Compare and Write
};
using NamespaceRef = boost::intrusive_ptr<Namespace>;

struct SubsystemConfig {
  std::string nqn;
  std::string serial;
  std::string model = "Blockbridge";
  std::string firmware = "0.1";
  std::vector<std::string> allowed_hosts;  // NQNs; empty: any
  SecurityConfig security;
  Admission* admission = nullptr;  // borrowed
  bool single_association = false;
  std::vector<NamespaceConfig> namespaces;  // the first ones
  // Not 0: it lives there, and only its name is here: hosts find it, and their connections go on
  // there (Handover).
  uint32_t home = 0;
};

// What hosts learn of a controller once, as they connect, stays as it is while namespaces come and
// go: the longest transfer and whether there is a volatile cache are those of the first namespaces.
class Subsystem {
 public:
  explicit Subsystem(SubsystemConfig config) : config_(std::move(config)) {}

  const std::string& nqn() const { return config_.nqn; }
  const SubsystemConfig& config() const { return config_; }
  bool allows(const std::string& host_nqn) const;

  // INVALID_ARGUMENT, ALREADY_EXISTS, NO_SPACE with the limit.
  Result<uint32_t> add(NamespaceConfig config, TargetCore& core);
  NamespaceRef remove(uint32_t nsid);  // null: there is none
  // After the first were added.
  void settle(const TargetLimits& limits);

  Namespace* find(uint32_t nsid) const {  // null: none
    return nsid - 1 < namespaces_.size() ? namespaces_[nsid - 1].get() : nullptr;
  }
  std::vector<uint32_t> nsids() const;  // ascending
  NamespaceRef ref(uint32_t nsid) const { return find(nsid); }
  // The first from `nsid` on, null behind the last.
  Namespace* next(uint32_t nsid) const;

  uint32_t transfer_max_bytes() const { return transfer_max_bytes_; }
  bool volatile_cache() const { return volatile_cache_; }
  bool discards() const;      // any of the namespaces
  Counters counters() const;  // of all namespaces so far

 private:
  SubsystemConfig config_;
  std::vector<NamespaceRef> namespaces_;  // by nsid - 1; null: none
  uint32_t transfer_max_bytes_ = 0;       // 0: not settled
  bool volatile_cache_ = false;
  Counters removed_counters_;
};

// INVALID_ARGUMENT for what no host could work with.
Status check_geometry(const Geometry& geometry);

}  // namespace bb::io::nvme
