// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <memory>

#include "io/engine.h"

namespace bb::io {

// Operations as entries of one io_uring: submitted all at once when the loop is about to wait.
class UringEngine final : public Engine {
 public:
  // NOT_SUPPORTED when the kernel or a sandbox refuses io_uring, with the errno in the text.
  static Result<std::unique_ptr<UringEngine>> create();
  ~UringEngine() override;

  void start() override;
  void submit(EngineOp& op) override;
  void cancel(EngineOp& op) override;
  void close(int fd) override;
  void forget(int) override {}
  void flush() override;
  bool look() override;
  bool may_spin() const override { return deferred_; }
  void sleep(std::optional<uint64_t> deadline_ns, uint64_t now_ns) override;
  void reap() override;
  void wake() override;
  Result<int> poll_fd() override;
  void heard() override;

  // A free entry, zeroed and bound to `op`, for what EngineOp has no kind for.
  io_uring_sqe* prepare(EngineOp& op);

  // The ring stays open beyond this engine, so that the kernel ends what is in it when this thread
  // ends, and not before. It costs a descriptor.
  void stay_open_until_thread_ends();

 private:
  UringEngine() = default;
  Status init();
  void arm_wakeup();
  bool kernel_has_events() const;

  struct Wakeup final : EngineOp {
    UringEngine* engine = nullptr;
  };
  io_uring ring_{};
  bool made_ = false;
  bool deferred_ = false;  // completions appear only when we enter the kernel
  int wake_fd_ = -1;
  int bell_fd_ = -1;  // host-driven: the ring rings it when something completes
  uint64_t wake_buffer_ = 0;
  bool wakeup_armed_ = false;
  unsigned transfers_untold_ = 0;
  Wakeup wakeup_;
};

}  // namespace bb::io
