// SPDX-License-Identifier: Apache-2.0
// pure: subsystems and controllers of a target; no I/O, time comes in as a number
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/nvme/command.h"
#include "io/nvme/identify.h"
#include "io/nvme/log_page.h"
#include "io/nvme/pdu.h"

namespace bb::io {
class Device;
}

namespace bb::io::nvme {

class TargetQueue;

enum class DigestPolicy : uint8_t { kAllow, kRequire, kOff };

struct TargetLimits {
  uint16_t io_queue_depth = 128;
  uint16_t admin_queue_depth = 32;
  uint16_t io_queues = 16;     // of one controller
  uint16_t async_events = 4;   // waiting, of one controller
  uint32_t controllers = 256;  // of the target
  uint32_t connections = 1024;
  uint32_t subsystems = 1024;
  uint32_t capsule_data_bytes = 8192;
  uint32_t h2c_data_bytes = 128 * 1024;
  uint32_t transfer_bytes = 1u << 20;      // MDTS
  uint64_t buffered_bytes = 8u << 20;      // of one connection, besides in-capsule data
  uint64_t handshake_ns = 10'000'000'000;  // until Connect has succeeded
  uint64_t keep_alive_grace_ns = 1'000'000'000;
};

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
};

struct SubsystemConfig {
  std::string nqn;
  std::string serial;
  std::string model = "Blockbridge";
  std::string firmware = "0.1";
  Uuid uuid;                               // of the one namespace, nsid 1
  std::vector<std::string> allowed_hosts;  // NQNs; empty: any
  Admission* admission = nullptr;          // borrowed
  Device* device = nullptr;                // borrowed; only the driver looks at it
  bool single_association = false;
  Geometry geometry;
};

struct Counters {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t errors = 0;  // commands answered with an error
  uint64_t digest_errors = 0;
};

struct Subsystem {
  SubsystemConfig config;
  Counters counters;

  bool allows(const std::string& host_nqn) const;
  uint32_t transfer_max_bytes(const TargetLimits& limits) const;
};

struct AdminReply {
  NvmeStatus status = NvmeStatus::kSuccess;
  uint64_t result = 0;
  std::vector<std::byte> data;
};

class TargetCore;

// One association of a host with a subsystem: the registers, features, events and queues.
class Controller {
 public:
  Controller(TargetCore& core, std::shared_ptr<Subsystem> subsystem, HostIdentity host, uint16_t id,
             uint32_t keep_alive_ms);

  uint16_t id() const { return id_; }
  const HostIdentity& host() const { return host_; }
  bool discovery() const { return subsystem_ == nullptr; }
  Subsystem* subsystem() const { return subsystem_.get(); }
  const std::string& nqn() const;
  bool ready() const { return (csts_ & kCstsReady) != 0; }

  AdminReply property_get(const Sqe& sqe) const;
  AdminReply property_set(const Sqe& sqe);
  AdminReply identify(const Sqe& sqe) const;
  AdminReply get_log_page(const Sqe& sqe);
  AdminReply get_features(const Sqe& sqe) const;
  AdminReply set_features(const Sqe& sqe);

  void heard(uint64_t now_ns) { heard_ns_ = now_ns; }
  bool expired(uint64_t now_ns) const;
  void note_error(const ErrorEntry& entry);
  void raise_event(uint32_t event);  // kEventNamespaceChanged or kEventDiscoveryChanged
  bool take_event(uint32_t* event);  // one that is enabled and not masked: masks it

  std::vector<TargetQueue*> queues;  // by queue id; null where none is connected
  uint16_t granted_queues = 0;       // I/O queues
  Counters counters;
  uint64_t connected_ns = 0;
  std::string local_host;  // where the host reached us

 private:
  ControllerInfo info() const;
  NamespaceInfo namespace_info() const;
  bool log_page(LogId id, LogData* data);
  void reset();
  void told(size_t event);

  TargetCore& core_;
  std::shared_ptr<Subsystem> subsystem_;  // null: the discovery subsystem
  HostIdentity host_;
  uint16_t id_;
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t keep_alive_ms_;
  uint64_t heard_ns_ = 0;
  uint32_t event_config_ = 0;
  uint32_t temperature_threshold_ = 0xffff;
  std::array<uint32_t, 2> pending_{};  // events raised and not yet told; 0: none
  std::array<bool, 2> masked_{};       // told, and its log page not yet read
  std::vector<uint32_t> changed_namespaces_;
  std::vector<ErrorEntry> errors_;  // newest last
  uint64_t error_count_ = 0;
};

struct ConnectAnswer {
  NvmeStatus status = NvmeStatus::kSuccess;
  uint32_t result = 0;
  Controller* controller = nullptr;
  bool later = false;  // no answer yet: ask again when the queue is told to
};

// Everything a target knows, apart from its sockets and devices.
class TargetCore {
 public:
  explicit TargetCore(TargetLimits limits, DigestPolicy policy = DigestPolicy::kAllow)
      : limits_(limits), policy_(policy) {}

  const TargetLimits& limits() const { return limits_; }
  DigestPolicy digest_policy() const { return policy_; }
  void set_addresses(std::vector<DiscoveryEntry> addresses) { addresses_ = std::move(addresses); }

  // INVALID_ARGUMENT, ALREADY_EXISTS, NO_SPACE with the limit.
  Status add_subsystem(SubsystemConfig config);
  Status remove_subsystem(const std::string& nqn);  // its controllers end; NOT_FOUND
  Status update_geometry(const std::string& nqn, const Geometry& geometry);
  const std::map<std::string, std::shared_ptr<Subsystem>>& subsystems() const {
    return subsystems_;
  }

  ConnectAnswer connect(TargetQueue& queue, const ConnectCommand& command, ConstBytes data,
                        uint64_t now_ns);
  // The queue is gone. With the admin queue goes the controller and all its queues.
  void disconnected(TargetQueue& queue, Controller& controller, uint16_t queue_id);
  // Ends the controllers that `of` chooses: their queues close, nothing new is submitted for them.
  void end_controllers(const std::function<bool(const Controller&)>& of, const char* why);
  // From a queue. Its commands are still with the device as it closes; they have all come back; it
  // closes while its Connect waits for another queue's.
  void left_behind(TargetQueue& queue, const Controller& controller);
  void came_back(TargetQueue& queue);
  void stopped_waiting(TargetQueue& queue) { std::erase(waiting_, &queue); }
  void expire(uint64_t now_ns);  // those whose keep alive ran out
  const std::vector<std::unique_ptr<Controller>>& controllers() const { return controllers_; }

  // What `host` may see. Entries without an address of their own name `local_host`.
  LogData discovery_log(const HostIdentity& host, const std::string& local_host) const;
  uint32_t controllers_ended = 0;

 private:
  ConnectAnswer connect_admin(TargetQueue& queue, const ConnectCommand& command,
                              const ConnectData& data, uint64_t now_ns);
  ConnectAnswer connect_io(TargetQueue& queue, const ConnectCommand& command,
                           const ConnectData& data);
  ConnectAnswer admit(const Subsystem& subsystem, const HostIdentity& host) const;
  bool replace_association(const Subsystem& subsystem, const HostIdentity& host);
  uint16_t free_id();
  void discovery_changed();

  TargetLimits limits_;
  DigestPolicy policy_;
  std::vector<DiscoveryEntry> addresses_;
  std::map<std::string, std::shared_ptr<Subsystem>> subsystems_;
  std::vector<std::unique_ptr<Controller>> controllers_;
  struct Leftover {  // a closed queue with commands at the device
    TargetQueue* queue;
    std::string nqn;
    HostIdentity host;
  };
  std::vector<Leftover> leftovers_;
  std::vector<TargetQueue*> waiting_;  // whose Connect waits until leftovers are gone
  uint16_t last_id_ = 0;
  uint64_t generation_ = 1;
};

}  // namespace bb::io::nvme
