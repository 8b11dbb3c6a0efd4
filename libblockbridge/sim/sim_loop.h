// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "io/loop.h"
#include "sim/trace.h"

namespace bb::sim {

class SimNode;

// The simulated world: one true time and one ready queue for all nodes. Events run in the order of
// (time, sequence); nothing else decides. Time stands still while something is ready.
class SimLoop final : public io::Loop {
 public:
  // 2026-11-01 00:00 UTC, so that records made in the simulator look like real ones.
  static constexpr uint64_t kWallStartNs = 1'793'491'200ull * 1'000'000'000;

  explicit SimLoop(uint64_t seed) : prng_(seed) {}
  ~SimLoop() override;

  uint64_t now_ns() const override { return now_ns_; }
  uint64_t wall_ns() const override { return kWallStartNs + now_ns_; }
  Prng& prng() override { return prng_; }
  void post(io::Work& work) override { ready_.push_back(work); }
  void post_remote(io::Work& work) override { post(work); }  // there is one thread
  void arm(io::Timer& timer, uint64_t deadline_ns) override { timers_.arm(timer, deadline_ns); }
  void disarm(io::Timer& timer) override { timers_.disarm(timer); }
  bool run_once(bool wait) override;

  // Runs all that happens until then; the time is `true_ns` afterwards.
  void run_until(uint64_t true_ns);
  void run_for(uint64_t duration_ns) { run_until(now_ns_ + duration_ns); }
  bool idle() const;  // nothing ready, no timer armed on a running node

  uint64_t steps() const { return steps_; }
  Trace& trace() { return trace_; }

 private:
  friend class SimNode;
  struct Next {
    uint64_t true_ns = UINT64_MAX;
    SimNode* node = nullptr;  // null: the world's own timer
    bool any = false;
  };
  Next next() const;
  void fire(const Next& next);

  uint64_t now_ns_ = 1'000'000;
  uint64_t steps_ = 0;
  Prng prng_;
  io::WorkList ready_;
  io::TimerQueue timers_;
  std::vector<SimNode*> nodes_;  // in the order they started, which breaks ties
  Trace trace_;
};

// How a node's clocks differ from true time.
struct SimClock {
  uint64_t boot_ns = 1'000'000'000;  // what the monotonic clock shows at the start
  int64_t wall_offset_ns = 0;
  int32_t drift_ppm = 0;  // fast (> 0) or slow, both clocks
};

// A node's loop: its view of time, its randomness, and whether it is paused. A restarted node is a
// new SimNode; the old one stays until its objects have drained.
class SimNode final : public io::Loop {
 public:
  SimNode(SimLoop& world, SimClock clock, Prng prng);
  ~SimNode() override;

  uint64_t now_ns() const override { return local_ns(world_.now_ns()); }
  uint64_t wall_ns() const override;
  Prng& prng() override { return prng_; }
  void post(io::Work& work) override;
  void post_remote(io::Work& work) override { post(work); }
  void arm(io::Timer& timer, uint64_t deadline_ns) override { timers_.arm(timer, deadline_ns); }
  void disarm(io::Timer& timer) override { timers_.disarm(timer); }
  bool run_once(bool wait) override { return world_.run_once(wait); }

  // A stopped virtual machine, a long page fault: nothing of the node runs until resume(), then
  // everything that piled up does. What was ready at the moment of the pause still runs.
  void pause() { paused_ = true; }
  void resume();
  bool paused() const { return paused_; }
  void jump_wall(int64_t by_ns) { clock_.wall_offset_ns += by_ns; }
  void set_drift(int32_t drift_ppm);

 private:
  friend class SimLoop;
  uint64_t local_ns(uint64_t true_ns) const;
  uint64_t true_ns(uint64_t local_ns) const;

  SimLoop& world_;
  SimClock clock_;
  uint64_t wall_at_zero_ns_;  // wall clock when the monotonic one shows 0, but for the offset
  uint64_t base_true_ns_;     // where the present rate began
  Prng prng_;
  bool paused_ = false;
  io::WorkList held_;
  io::TimerQueue timers_;
};

}  // namespace bb::sim
