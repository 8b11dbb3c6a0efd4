// SPDX-License-Identifier: Apache-2.0
#include "io/offload.h"

namespace bb::io {

Offload::Offload() : thread_([this] { work(); }) {}

Offload::~Offload() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Offload::Run::await_suspend(std::coroutine_handle<> caller) {
  waiter = caller;
  Work::run = [](Work* work) { Trampoline::run(static_cast<Run*>(work)->waiter); };
  {
    std::lock_guard lock(offload.mutex_);
    offload.jobs_.push_back(this);
  }
  offload.wake_.notify_one();
}

void Offload::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Run* run = jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    run->job();
    run->loop.post_remote(*run);  // the job may be gone after this
    lock.lock();
  }
}

}  // namespace bb::io
