// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_loop.h"

#include <algorithm>

namespace bb::sim {
namespace {

constexpr int64_t kMillion = 1'000'000;

}  // namespace

SimLoop::~SimLoop() { BB_CHECK(nodes_.empty(), "{} nodes outlive their world", nodes_.size()); }

SimLoop::Next SimLoop::next() const {
  Next best;
  if (auto deadline = timers_.next_deadline_ns()) {
    best = {.true_ns = std::max(*deadline, now_ns_), .node = nullptr, .any = true};
  }
  for (SimNode* node : nodes_) {
    if (node->paused_) continue;
    auto deadline = node->timers_.next_deadline_ns();
    if (!deadline) continue;
    uint64_t when = std::max(node->true_ns(*deadline), now_ns_);
    if (!best.any || when < best.true_ns) best = {.true_ns = when, .node = node, .any = true};
  }
  return best;
}

void SimLoop::fire(const Next& next) {
  BB_CHECK(next.true_ns >= now_ns_, "time runs forwards");
  now_ns_ = next.true_ns;
  io::Timer* timer = next.node != nullptr ? next.node->timers_.pop_due(next.node->now_ns())
                                          : timers_.pop_due(now_ns_);
  BB_CHECK(timer != nullptr, "the timer found at {} ns is not due", now_ns_);
  timer->fire(timer);
}

bool SimLoop::run_once(bool wait) {
  if (!ready_.empty()) {
    ++steps_;
    io::Work& work = ready_.front();
    ready_.pop_front();
    work.run(&work);
    return true;
  }
  Next first = next();
  if (!first.any) return false;
  if (!wait && first.true_ns > now_ns_) return true;
  ++steps_;
  fire(first);
  return true;
}

void SimLoop::run_until(uint64_t true_ns) {
  for (;;) {
    if (!ready_.empty()) {
      run_once(false);
      continue;
    }
    Next first = next();
    if (!first.any || first.true_ns > true_ns) break;
    ++steps_;
    fire(first);
  }
  now_ns_ = std::max(now_ns_, true_ns);
}

bool SimLoop::idle() const { return ready_.empty() && !next().any; }

SimNode::SimNode(SimLoop& world, SimClock clock, Prng prng)
    : world_(world),
      clock_(clock),
      wall_at_zero_ns_(world.wall_ns() - clock.boot_ns),
      base_true_ns_(world.now_ns()),
      prng_(prng) {
  BB_CHECK(clock.drift_ppm > -100'000 && clock.drift_ppm < 100'000, "drift of {} ppm",
           clock.drift_ppm);
  world_.nodes_.push_back(this);
}

SimNode::~SimNode() {
  BB_CHECK(held_.empty(), "a paused node is destroyed with work held: resume it first");
  std::erase(world_.nodes_, this);
}

uint64_t SimNode::local_ns(uint64_t true_ns) const {
  auto passed = static_cast<int64_t>(true_ns - base_true_ns_);
  return clock_.boot_ns + static_cast<uint64_t>(passed + passed / kMillion * clock_.drift_ppm +
                                                passed % kMillion * clock_.drift_ppm / kMillion);
}

// The first true time at which the node's clock shows at least `local`.
uint64_t SimNode::true_ns(uint64_t local) const {
  if (local <= clock_.boot_ns) return base_true_ns_;
  constexpr uint64_t kFarNs = 1ull << 61;
  uint64_t passed = local - clock_.boot_ns;
  if (passed >= kFarNs) return UINT64_MAX;
  int64_t rate = kMillion + clock_.drift_ppm;
  auto p = static_cast<int64_t>(passed);
  uint64_t guess =
      base_true_ns_ + static_cast<uint64_t>(p / rate * kMillion + p % rate * kMillion / rate);
  if (guess > base_true_ns_ + 2) guess -= 2;  // integer division rounds twice
  while (local_ns(guess) < local) ++guess;
  return guess;
}

uint64_t SimNode::wall_ns() const {
  return wall_at_zero_ns_ + now_ns() + static_cast<uint64_t>(clock_.wall_offset_ns);
}

void SimNode::post(io::Work& work) {
  if (paused_) {
    held_.push_back(work);
  } else {
    world_.post(work);
  }
}

void SimNode::resume() {
  paused_ = false;
  world_.ready_.splice(world_.ready_.end(), held_);
}

void SimNode::set_drift(int32_t drift_ppm) {
  uint64_t here = now_ns();
  clock_.boot_ns = here;
  base_true_ns_ = world_.now_ns();
  clock_.drift_ppm = drift_ppm;
}

}  // namespace bb::sim
