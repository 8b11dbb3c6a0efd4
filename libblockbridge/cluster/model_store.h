// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>

#include "base/prng.h"
#include "cluster/kv_core.h"
#include "cluster/store.h"
#include "cluster/watch_hub.h"

namespace bb::cluster {

// Faults are once in that many calls; 0 is never.
struct ModelFaults {
  uint64_t latency_max_ns = 0;
  uint64_t timeout_ns = 1'000'000'000;   // until a caller without an answer gives up
  uint32_t unavailable_one_in = 0;       // refused; nothing happened, but nobody may rely on that
  uint32_t unknown_one_in = 0;           // TIMED_OUT; it happened, happens later, or never
  uint64_t late_max_ns = 3'000'000'000;  // how much later
};

// The whole store of a simulated cluster: linearizable, leases on its own clock, the same for the
// same seed. It never fails itself; clients are cut off from it. Must outlive its clients.
class ModelCluster {
 public:
  ModelCluster(io::Loop& loop, Prng prng, StoreLimits limits = {});
  ~ModelCluster();

  // A node's connection; `context` is the node's. Names are for partitions.
  std::unique_ptr<Store> connect(io::Context context, std::string node);

  ModelFaults& faults() { return faults_; }
  void set_partitioned(const std::string& node, bool partitioned);
  // The next change through any client ends as TIMED_OUT, and this is what became of it.
  enum class Outcome : uint8_t { kHappened, kHappensLater, kNever };
  void force_next_outcome(Outcome outcome) { forced_ = outcome; }
  const KvCore& core() const { return core_; }

  io::Task<void> close();  // before destruction, after the clients' close()

 private:
  friend class ModelStore;
  using Change = std::function<void()>;
  struct Link {
    bool cut_off = false;
  };

  io::Task<void> expire_leases();
  io::Task<void> apply_late(Change change, uint64_t delay_ns);
  Outcome draw_outcome();

  io::Loop& loop_;
  Prng prng_;
  KvCore core_;
  WatchHub hub_;
  ModelFaults faults_;
  std::map<std::string, Link> links_;
  std::optional<Outcome> forced_;
  io::Event leases_changed_;
  bool stopping_ = false;
  io::TaskGroup group_;
};

}  // namespace bb::cluster
