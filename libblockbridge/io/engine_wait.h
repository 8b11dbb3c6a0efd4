// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/reactor.h"

namespace bb::io {

// co_await on one operation: gives its result, or minus errno. What derives from it submits.
struct EngineWait : EngineOp {
  Reactor& reactor;
  std::coroutine_handle<> waiter;
  int32_t result = 0;

  explicit EngineWait(Reactor& r) : reactor(r) {
    complete = [](EngineOp* op, int32_t res) {
      auto* self = static_cast<EngineWait*>(op);
      self->result = res;
      Trampoline::run(self->waiter);
    };
  }
  EngineWait(const EngineWait&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) {
    waiter = caller;
    start();
  }
  int32_t await_resume() const { return result; }

 protected:
  ~EngineWait() = default;

 private:
  virtual void start() = 0;
};

}  // namespace bb::io
