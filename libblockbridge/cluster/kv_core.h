// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <deque>
#include <map>

#include "cluster/store_types.h"

namespace bb::cluster {

struct LeaseRecord {
  uint64_t id = 0;
  uint64_t ttl_ns = 0;
  uint64_t deadline_ns = 0;
};

// What a change will do, decided but not done: a backend makes it durable, then applies it.
struct Effects {
  uint64_t revision = 0;  // of the store afterwards
  std::vector<WatchEvent> events;
  std::optional<LeaseRecord> granted;
  uint64_t revoked = 0;  // lease

  bool nothing() const { return events.empty() && !granted.has_value() && revoked == 0; }
};

// The rules of the store as a plain state machine, the same under every backend that is ours.
class KvCore {
 public:
  explicit KvCore(StoreLimits limits) : limits_(limits) {}

  // For a backend that loads what it kept. Watches begin after `revision`.
  Status restore(std::vector<KeyValue> entries, std::vector<LeaseRecord> leases, uint64_t revision,
                 uint64_t next_lease);

  uint64_t revision() const { return revision_; }
  uint64_t next_lease() const { return next_lease_; }
  Result<GetResult> get(const std::string& key) const;
  Result<ListResult> list(const std::string& prefix, size_t limit) const;

  struct Plan {
    TxnResult result;
    Effects effects;
  };
  Result<Plan> plan_txn(const Txn& txn) const;
  Result<Effects> plan_grant(uint64_t ttl_ns, uint64_t now_ns) const;
  Result<Effects> plan_revoke(uint64_t lease) const;
  Status keep_alive(uint64_t lease, uint64_t now_ns);
  void apply(const Effects& effects);

  // A lease that ended by `now_ns`, if any; when the next one will.
  std::optional<uint64_t> expired_lease(uint64_t now_ns) const;
  std::optional<uint64_t> next_expiry_ns() const;

  // BAD_STATE when some of them are no longer known.
  Result<std::vector<WatchEvent>> events(const std::string& prefix, uint64_t from_revision) const;

 private:
  Status check_key(const std::string& key) const;
  Status check_txn(const Txn& txn) const;
  Status check_space(const Effects& effects) const;
  bool holds(const Compare& compare) const;
  std::optional<KeyValue> find(const std::string& key) const;
  static uint64_t cost(const KeyValue& entry) { return entry.key.size() + entry.value.size(); }

  StoreLimits limits_;
  std::map<std::string, KeyValue> entries_;
  uint64_t total_bytes_ = 0;
  uint64_t revision_ = 1;
  std::map<uint64_t, LeaseRecord> leases_;
  uint64_t next_lease_ = 1;
  std::deque<WatchEvent> history_;
  uint64_t compacted_revision_ = 1;  // events up to here are forgotten
};

}  // namespace bb::cluster
