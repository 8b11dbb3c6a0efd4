// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <coroutine>
#include <cstdint>
#include <optional>

#include "base/prng.h"
#include "io/task.h"

namespace bb::io {

namespace intrusive = boost::intrusive;

// Something to run soon on a loop. Lives in its owner; queued at most once at a time.
struct Work : intrusive::list_base_hook<intrusive::link_mode<intrusive::safe_link>> {
  void (*run)(Work*) = nullptr;
  Work* next_remote = nullptr;  // the reactor's cross-thread stack
};
using WorkList = intrusive::list<Work, intrusive::constant_time_size<false>>;

// Fires once at its deadline unless disarmed. Lives in its owner.
struct Timer : intrusive::set_base_hook<intrusive::link_mode<intrusive::safe_link>> {
  uint64_t deadline_ns = 0;
  uint64_t sequence = 0;  // equal deadlines fire in the order they were armed
  void (*fire)(Timer*) = nullptr;

  bool armed() const { return is_linked(); }
  friend bool operator<(const Timer& a, const Timer& b) {
    return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.sequence < b.sequence;
  }
};

// Timers in the order they are due; what every loop has inside.
class TimerQueue {
 public:
  void arm(Timer& timer, uint64_t deadline_ns);
  void disarm(Timer& timer);
  std::optional<uint64_t> next_deadline_ns() const;
  Timer* pop_due(uint64_t now_ns);  // null when none is due

 private:
  intrusive::set<Timer, intrusive::constant_time_size<false>> timers_;
  uint64_t sequence_ = 0;
};

// Where an object lives: clock, timers, ready queue, randomness. The Reactor is the real one, the
// simulator has its own; nothing above io/ sees a difference. Single-threaded, but for post_remote.
class Loop {
 public:
  virtual ~Loop() = default;

  virtual uint64_t now_ns() const = 0;  // monotonic
  // When this batch of work began: a clock that is read once for many commands, for measuring them.
  // The loop begins a batch in each turn, once it has looked for completions.
  uint64_t batch_ns() const { return batch_ns_ != 0 ? batch_ns_ : now_ns(); }
  virtual void begin_batch() {}          // another: batch_ns() is now
  virtual uint64_t wall_ns() const = 0;  // since 1970-01-01 UTC; for records, never for timeouts
  virtual Prng& prng() = 0;

  virtual void post(Work& work) = 0;         // run soon, in order, on this loop
  virtual void post_remote(Work& work) = 0;  // the same, from any thread
  virtual void arm(Timer& timer, uint64_t deadline_ns) = 0;
  virtual void disarm(Timer& timer) = 0;  // harmless when not armed

  // Runs what is ready; waits for something to happen if `wait`. False when nothing can ever
  // happen.
  virtual bool run_once(bool wait) = 0;

  // co_await loop.sleep_for(ns) / sleep_until(deadline) / yield()
  struct Sleep;
  Sleep sleep_until(uint64_t deadline_ns);
  Sleep sleep_for(uint64_t duration_ns);
  struct Yield;
  Yield yield();

  // Runs the loop until `task` has ended: the door from plain code into coroutines.
  template <typename T>
  T block_on(Task<T> task);

 protected:
  uint64_t batch_ns_ = 0;  // 0: the clock of this loop costs nothing to read
};

struct Loop::Sleep : Timer {
  Loop& loop;
  std::coroutine_handle<> waiter;

  Sleep(Loop& l, uint64_t when) : loop(l) { deadline_ns = when; }
  Sleep(const Sleep&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) {
    waiter = caller;
    fire = [](Timer* timer) { Trampoline::run(static_cast<Sleep*>(timer)->waiter); };
    loop.arm(*this, deadline_ns);
  }
  void await_resume() const {}
};

struct Loop::Yield : Work {
  Loop& loop;
  std::coroutine_handle<> waiter;

  explicit Yield(Loop& l) : loop(l) {}
  Yield(const Yield&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) {
    waiter = caller;
    run = [](Work* work) { Trampoline::run(static_cast<Yield*>(work)->waiter); };
    loop.post(*this);
  }
  void await_resume() const {}
};

inline Loop::Sleep Loop::sleep_until(uint64_t deadline_ns) { return Sleep(*this, deadline_ns); }
inline Loop::Sleep Loop::sleep_for(uint64_t duration_ns) {
  return Sleep(*this, now_ns() + duration_ns);
}
inline Loop::Yield Loop::yield() { return Yield(*this); }

template <typename T>
T Loop::block_on(Task<T> task) {
  auto frame = std::move(task).release();
  bool ended = false;
  frame.promise().set_finished(
      [](void* flag, std::coroutine_handle<>) { *static_cast<bool*>(flag) = true; }, &ended);
  begin_batch();
  Trampoline::run(frame);
  while (!ended) {
    bool alive = run_once(true);
    BB_CHECK(alive || ended, "block_on: the loop has nothing left that could end the task");
  }
  if constexpr (std::is_void_v<T>) {
    frame.destroy();
  } else {
    T value = frame.promise().take();
    frame.destroy();
    return value;
  }
}

}  // namespace bb::io
