// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>

#include "base/check.h"
#include "io/frame_pool.h"
#include "io/trampoline.h"

namespace bb::io {

// What every promise shares: pooled frames, the continuation, and the owner of a spawned task.
class PromiseBase {
 public:
  // Called once a spawned task has ended; destroys the frame. Null for awaited tasks.
  using Finished = void (*)(void* owner, std::coroutine_handle<> frame);

  static void* operator new(size_t size) { return frame_allocate(size); }
  static void operator delete(void* frame, size_t size) noexcept { frame_free(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      if (promise.finished_ != nullptr) {
        promise.finished_(promise.owner_, self);  // the frame is gone after this
      } else if (promise.continuation_) {
        Trampoline::then(promise.continuation_);
      }
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

  // Nothing in the library throws; a library we call that does is caught where it is called.
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }

  void set_continuation(std::coroutine_handle<> continuation) { continuation_ = continuation; }
  void set_finished(Finished finished, void* owner) {
    finished_ = finished;
    owner_ = owner;
  }

 private:
  std::coroutine_handle<> continuation_;
  Finished finished_ = nullptr;
  void* owner_ = nullptr;
};

template <typename T>
class Task;

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void take() {}
};

// A lazy coroutine: starts when awaited or handed to a TaskGroup; dropping one unstarted, or
// destroying one that runs, is a programmer error. Belongs to one reactor's thread.
template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = Promise<T>;
  using value_type = T;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle frame) : frame_(frame) {}
  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!frame_) return;
    BB_CHECK(frame_.done(), "a Task was dropped: await it or hand it to a TaskGroup");
    frame_.destroy();
  }

  struct Awaiter {
    Handle frame;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> caller) noexcept {
      frame.promise().set_continuation(caller);
      Trampoline::then(frame);
    }
    T await_resume() { return frame.promise().take(); }
  };
  Awaiter operator co_await() && noexcept { return Awaiter{frame_}; }

  // Gives the frame away (TaskGroup, Loop::block_on).
  Handle release() && { return std::exchange(frame_, nullptr); }

 private:
  Handle frame_;
};

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace bb::io
