// SPDX-License-Identifier: Apache-2.0
#include "io/runtime.h"

namespace bb::io {

Result<std::unique_ptr<Runtime>> Runtime::create(bool own_thread, ReactorOptions options) {
  BB_ASSIGN(std::unique_ptr<Reactor> reactor, Reactor::create(options));
  std::unique_ptr<Runtime> runtime(new Runtime(std::move(reactor)));
  if (own_thread) runtime->thread_ = std::thread([raw = runtime.get()] { raw->serve(); });
  return runtime;
}

Runtime::Runtime(std::unique_ptr<Reactor> reactor)
    : reactor_(std::move(reactor)),
      network_(make_tcp_network(*reactor_, &offload_)),
      started_(*reactor_) {}

// Until stopped, and then until the last task that was started has ended.
void Runtime::serve() {
  reactor_->run();
  drain();
}

// What was posted a moment ago may be the start of a task.
void Runtime::drain() {
  while (started_.running() > 0 || reactor_->has_posted()) reactor_->run_once(true);
}

Runtime::~Runtime() {
  if (!own_thread()) {
    drain();
    return;
  }
  reactor_->stop();
  thread_.join();
}

Context Runtime::context() {
  return {.loop = *reactor_, .network = *network_, .reactor = reactor_.get(), .offload = &offload_};
}

}  // namespace bb::io
