// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "io/loop.h"

namespace bb::io {

// One helper thread for calls that block (SQLite, name look-ups, opening files), so that the
// reactor never does. Jobs run in order. `co_await offload.run(fn)` resumes on the caller's loop.
class Offload {
 public:
  Offload();
  ~Offload();  // runs what is queued, then joins

  struct Run;
  Run run(Loop& loop, std::function<void()> job);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Run*> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

struct Offload::Run : Work {
  Offload& offload;
  Loop& loop;
  std::function<void()> job;
  std::coroutine_handle<> waiter;

  Run(Offload& o, Loop& l, std::function<void()> j) : offload(o), loop(l), job(std::move(j)) {}
  Run(const Run&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}
};

inline Offload::Run Offload::run(Loop& loop, std::function<void()> job) {
  return Run(*this, loop, std::move(job));
}

}  // namespace bb::io
