// SPDX-License-Identifier: Apache-2.0
#include "io/sync.h"

namespace bb::io {

bool WaitQueue::wake_one() {
  if (waiters_.empty()) return false;
  auto& waiter = static_cast<Waiter&>(waiters_.front());
  waiters_.pop_front();
  waiter.waiting = false;
  waiter.loop->post(waiter);
  return true;
}

void WaitQueue::wake_all() {
  while (wake_one()) {
  }
}

void Event::set() {
  set_ = true;
  waiters_.wake_all();
}

// Waits in the queue and in the timers at once; whichever comes first takes it out of the other.
struct Event::TimedWait : WaitQueue::Waiter {
  Event& event;
  struct Alarm : Timer {
    TimedWait* wait = nullptr;
  } alarm;
  bool expired = false;

  TimedWait(Event& e, uint64_t deadline_ns) : event(e) {
    alarm.deadline_ns = deadline_ns;
    alarm.wait = this;
  }
  bool await_ready() const { return event.set_; }
  void await_suspend(std::coroutine_handle<> caller) {
    handle = caller;
    loop = event.loop_;
    event.waiters_.push(*this);
    alarm.fire = [](Timer* timer) {
      TimedWait* wait = static_cast<Alarm*>(timer)->wait;
      if (!wait->waiting) return;  // already woken and posted
      wait->event.waiters_.remove(*wait);
      wait->expired = true;
      Trampoline::run(wait->handle);
    };
    event.loop_->arm(alarm, alarm.deadline_ns);
  }
  bool await_resume() {
    if (loop != nullptr) loop->disarm(alarm);  // not event.loop_: the event may be gone by now
    return !expired;
  }
};

Task<bool> Event::wait_until(uint64_t deadline_ns) {
  co_return co_await TimedWait(*this, deadline_ns);
}

void Event::move_to(Loop& there) {
  BB_CHECK(waiters_.empty(), "an event is moved while somebody waits for it");
  loop_ = &there;
}

void Semaphore::release(uint64_t permits) {
  while (permits > 0 && waiters_.wake_one()) --permits;
  permits_ += permits;
}

bool Semaphore::try_acquire() {
  if (permits_ == 0) return false;
  --permits_;
  return true;
}

Task<Mutex::Held> Mutex::scoped() {
  co_await lock();
  co_return Held(*this);
}

bool Gate::enter() {
  if (closed_) return false;
  ++inside_;
  empty_.reset();
  return true;
}

void Gate::leave() {
  BB_CHECK(inside_ > 0, "left a gate that was not entered");
  if (--inside_ == 0) empty_.set();
}

Task<void> Gate::close() {
  closed_ = true;
  co_await empty_.wait();
}

void Gate::move_to(Loop& there) {
  BB_CHECK(inside_ == 0, "a gate is moved with {} inside", inside_);
  empty_.move_to(there);
}

void TaskGroup::spawn(Task<void> task) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "spawned into a group that was joined");
  auto frame = std::move(task).release();
  frame.promise().set_finished(
      [](void* owner, std::coroutine_handle<> ended) {
        ended.destroy();
        static_cast<TaskGroup*>(owner)->gate_.leave();
      },
      this);
  Trampoline::run(frame);
}

Task<void> TaskGroup::join() { co_await gate_.close(); }

}  // namespace bb::io
