// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <atomic>
#include <memory>

#include "base/status.h"
#include "io/loop.h"

namespace bb::io {

// One operation on the ring: lives in its waiter; `complete` runs exactly once.
struct UringOp {
  void (*complete)(UringOp* op, int32_t result) = nullptr;
};

// The real loop: single-threaded, on one io_uring. Sleeps in the kernel when nothing is to do.
// Created anywhere; the first thread that calls run(), run_once() or poll_fd() owns it from then
// on.
class Reactor final : public Loop {
 public:
  // NOT_SUPPORTED when the kernel or a sandbox refuses io_uring, with the errno in the text.
  static Result<std::unique_ptr<Reactor>> create();
  ~Reactor() override;

  uint64_t now_ns() const override;
  uint64_t wall_ns() const override;
  Prng& prng() override { return prng_; }
  void post(Work& work) override { ready_.push_back(work); }
  void post_remote(Work& work) override;
  void arm(Timer& timer, uint64_t deadline_ns) override { timers_.arm(timer, deadline_ns); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }
  bool run_once(bool wait) override;       // never from something it runs
  bool inside() const { return inside_; }  // in run_once() at this moment
  // Work that was posted and has not run: an empty loop is not yet an idle one.
  bool has_posted() const {
    return !ready_.empty() || remote_.load(std::memory_order_acquire) != nullptr;
  }

  void run();   // until stop()
  void stop();  // from any thread

  // For a host's own event loop: readable when run_once(false) has something to do. Call
  // prepare_poll() before going to sleep on it.
  Result<int> poll_fd();
  void prepare_poll();

  // A free submission entry, bound to `op`; submitted with all others before the loop sleeps.
  io_uring_sqe* prepare(UringOp& op);
  void cancel(UringOp& op);  // asks; op still completes, with -ECANCELED or what it had

 private:
  explicit Reactor(uint64_t seed) : prng_(seed) {}
  Status init();
  void start();
  void take_remote();
  void run_ready();
  void fire_timers();
  void reap();
  void enter(bool wait);
  bool spin(uint64_t started_ns);
  void sleep();
  void arm_wakeup();
  Status make_poll_fd();

  struct Wakeup final : UringOp {
    Reactor* reactor = nullptr;
  };
  io_uring ring_{};
  bool ring_made_ = false;
  bool started_ = false;
  bool inside_ = false;
  bool deferred_ = false;  // completions appear only when we enter the kernel
  bool last_wait_short_ = false;
  uint32_t spin_skip_ = 0;
  uint32_t spin_penalty_ = 1;
  int wake_fd_ = -1;
  int epoll_fd_ = -1;
  int ring_event_fd_ = -1;  // host-driven: the ring rings it when something completes
  int timer_fd_ = -1;
  uint64_t wake_buffer_ = 0;
  uint64_t poll_deadline_ns_ = 0;
  bool wakeup_armed_ = false;
  Wakeup wakeup_;
  std::atomic<Work*> remote_{nullptr};
  std::atomic<bool> stopping_{false};
  WorkList ready_;
  TimerQueue timers_;
  Prng prng_;
};

}  // namespace bb::io
