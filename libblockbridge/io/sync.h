// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/loop.h"

namespace bb::io {

// Coroutines waiting in a row. Waking one posts it to its loop: it runs later, never on the stack
// of whoever woke it.
class WaitQueue {
 public:
  struct Waiter : Work {
    std::coroutine_handle<> handle;
    Loop* loop = nullptr;
    bool waiting = false;  // in the queue, not yet woken
    Waiter() {
      run = [](Work* work) { Trampoline::run(static_cast<Waiter*>(work)->handle); };
    }
    Waiter(const Waiter&) = delete;
  };

  bool empty() const { return waiters_.empty(); }
  void push(Waiter& waiter) {
    waiter.waiting = true;
    waiters_.push_back(waiter);
  }
  void remove(Waiter& waiter) {
    waiter.waiting = false;
    waiters_.erase(waiters_.iterator_to(waiter));
  }
  bool wake_one();
  void wake_all();

 private:
  WorkList waiters_;
};

// Set once (or reset and set again); everyone who waits goes on.
class Event {
 public:
  explicit Event(Loop& loop) : loop_(&loop) {}
  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }

  struct Wait : WaitQueue::Waiter {
    Event& event;
    explicit Wait(Event& e) : event(e) {}
    bool await_ready() const { return event.set_; }
    void await_suspend(std::coroutine_handle<> caller) {
      handle = caller;
      loop = event.loop_;
      event.waiters_.push(*this);
    }
    void await_resume() const {}
  };
  Wait wait() { return Wait(*this); }

  // True when set before the deadline.
  Task<bool> wait_until(uint64_t deadline_ns);

  void move_to(Loop& there);  // while nobody waits

 private:
  struct TimedWait;
  Loop* loop_;
  WaitQueue waiters_;
  bool set_ = false;
};

// Counts permits; waiters are served in order.
class Semaphore {
 public:
  Semaphore(Loop& loop, uint64_t permits) : loop_(loop), permits_(permits) {}
  void release(uint64_t permits = 1);
  bool try_acquire();

  struct Acquire : WaitQueue::Waiter {
    Semaphore& semaphore;
    explicit Acquire(Semaphore& s) : semaphore(s) {}
    bool await_ready() { return semaphore.try_acquire(); }
    void await_suspend(std::coroutine_handle<> caller) {
      handle = caller;
      loop = &semaphore.loop_;
      semaphore.waiters_.push(*this);
    }
    void await_resume() const {}
  };
  Acquire acquire() { return Acquire(*this); }

 private:
  Loop& loop_;
  uint64_t permits_;
  WaitQueue waiters_;
};

// co_await mutex.lock(); … mutex.unlock(); or `auto held = co_await mutex.scoped();`
class Mutex {
 public:
  explicit Mutex(Loop& loop) : semaphore_(loop, 1) {}
  Semaphore::Acquire lock() { return semaphore_.acquire(); }
  void unlock() { semaphore_.release(); }

  class Held {
   public:
    explicit Held(Mutex& mutex) : mutex_(&mutex) {}
    Held(Held&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    Mutex* mutex_;
  };
  Task<Held> scoped();

 private:
  Semaphore semaphore_;
};

// Counts those inside; close() refuses newcomers and waits until the last has left. Stopping an
// object is: set its stop flag, make its I/O complete, co_await gate.close().
class Gate {
 public:
  explicit Gate(Loop& loop) : empty_(loop) { empty_.set(); }
  ~Gate() { BB_CHECK(inside_ == 0, "a gate was destroyed with {} inside", inside_); }

  bool enter();  // false when closed
  void leave();
  bool closed() const { return closed_; }
  uint64_t inside() const { return inside_; }
  Task<void> close();
  void move_to(Loop& there);  // while nobody is inside

 private:
  Event empty_;
  uint64_t inside_ = 0;
  bool closed_ = false;
};

// Owns running tasks that nobody awaits one by one. join() waits for all; destroying a group with
// tasks running is a programmer error.
class TaskGroup {
 public:
  explicit TaskGroup(Loop& loop) : gate_(loop) {}
  void spawn(Task<void> task);  // starts at once, until its first suspension
  Task<void> join();
  uint64_t running() const { return gate_.inside(); }

 private:
  Gate gate_;
};

}  // namespace bb::io
