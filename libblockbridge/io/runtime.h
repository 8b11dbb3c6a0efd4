// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <semaphore>
#include <thread>
#include <type_traits>

#include "io/context.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/sync.h"
#include "io/tcp.h"

namespace bb::io {

// Everything real that objects live in: reactor, sockets, helper thread. Either it runs the reactor
// on a thread of its own, and any thread may call in; or the thread that uses it drives the loop.
class Runtime {
 public:
  static Result<std::unique_ptr<Runtime>> create(bool own_thread, ReactorOptions options = {});
  ~Runtime();  // every object that lives in it has been closed

  Context context();
  Reactor& reactor() { return *reactor_; }
  bool own_thread() const { return thread_.joinable(); }
  bool on_loop_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

  // Runs the task that `make()` gives on the loop and waits for its value. Never from the loop's
  // own thread when that is not the caller's to drive: it would wait for itself.
  template <typename Make, typename T = typename std::invoke_result_t<Make&>::value_type>
  T call(Make make);

  // The same without waiting: `done(value)` runs on the loop.
  template <typename Make, typename Done>
  void start(Make make, Done done);

 private:
  explicit Runtime(std::unique_ptr<Reactor> reactor);
  void serve();
  void drain();

  std::unique_ptr<Reactor> reactor_;
  Offload offload_;
  std::unique_ptr<Network> network_;
  TaskGroup started_;
  std::thread thread_;
};

namespace detail {

template <typename Make, typename T>
Task<void> run_call(Make* make, std::optional<T>* value, std::binary_semaphore* done) {
  value->emplace(co_await (*make)());
  done->release();  // the caller goes on: nothing of it is touched after this
}

template <typename Make, typename T>
struct Call : Work {
  Make make;
  TaskGroup& group;
  std::optional<T> value;
  std::binary_semaphore done{0};

  Call(Make m, TaskGroup& g) : make(std::move(m)), group(g) {
    run = [](Work* work) {
      auto* self = static_cast<Call*>(work);
      self->group.spawn(run_call<Make, T>(&self->make, &self->value, &self->done));
    };
  }
};

template <typename Make, typename Done>
struct Start : Work {
  Make make;
  Done done;
  TaskGroup& group;

  static Task<void> go(std::unique_ptr<Start> self) {
    auto value = co_await self->make();
    self->done(std::move(value));
  }
  Start(Make m, Done d, TaskGroup& g) : make(std::move(m)), done(std::move(d)), group(g) {
    run = [](Work* work) {
      auto* self = static_cast<Start*>(work);
      self->group.spawn(go(std::unique_ptr<Start>(self)));
    };
  }
};

}  // namespace detail

template <typename Make, typename T>
T Runtime::call(Make make) {
  if (!own_thread()) return reactor_->block_on(make());
  BB_CHECK(!on_loop_thread(), "a blocking call on the runtime's own thread would wait for itself");
  detail::Call<Make, T> job(std::move(make), started_);
  reactor_->post_remote(job);
  job.done.acquire();
  return std::move(*job.value);
}

template <typename Make, typename Done>
void Runtime::start(Make make, Done done) {
  auto* job = new detail::Start<Make, Done>(std::move(make), std::move(done), started_);
  reactor_->post_remote(*job);
}

}  // namespace bb::io
