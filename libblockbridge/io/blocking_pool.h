// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/engine.h"

namespace bb::io {

// A few threads for operations on files, which no readiness is told of: they block. Threads begin
// when there is work for them, at most kThreadsMax, and end with the pool. One thread submits and
// takes what has ended; `wake` is called from the pool's.
class BlockingPool {
 public:
  static constexpr size_t kThreadsMax = 16;

  explicit BlockingPool(Engine& to_wake) : engine_(to_wake) {}
  ~BlockingPool() { stop(); }
  void stop();  // what has begun ends first; what has not never does; nobody is woken afterwards

  void submit(EngineOpQueue& ops);     // which is empty then
  bool take_back(EngineOp& op);        // false: it has begun, or ended
  void take_ended(EngineOpQueue* to);  // in the order in which they ended
  bool has_ended() const { return ended_.load(std::memory_order_relaxed) != nullptr; }

 private:
  bool begin_thread();  // these two under the mutex
  bool may_begin_thread() const { return idle_ == 0 && threads_.size() < kThreadsMax; }
  void work();
  void end(EngineOp& op);

  Engine& engine_;
  std::mutex mutex_;
  std::condition_variable wake_;
  EngineOpQueue line_;
  size_t idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
  std::atomic<EngineOp*> ended_{nullptr};  // newest first
};

// What the kernel says to an operation on a file, waiting for it; `flags` beside the operation's.
int32_t run_blocking(const EngineOp& op, int flags = 0);

}  // namespace bb::io
