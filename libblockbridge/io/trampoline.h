// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <utility>

#include "base/check.h"

namespace bb::io {

// Coroutines never resume each other on the stack: whoever wants another one to go on names it with
// `then`, and the loop in `run` resumes it after the present one has suspended. A loop of a million
// awaits that complete at once therefore needs no stack, whatever the compiler optimises.
class Trampoline {
 public:
  // Resumes `handle` and all that it names, until one suspends without naming a next.
  static void run(std::coroutine_handle<> handle) {
    while (handle) {
      next_ = nullptr;
      handle.resume();
      handle = std::exchange(next_, nullptr);
    }
  }

  // Only from an await_suspend, and at most once in it.
  static void then(std::coroutine_handle<> handle) { next_ = handle; }

 private:
  static constinit thread_local inline std::coroutine_handle<> next_{};
};

}  // namespace bb::io
