// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/epoll.h>

#include <memory>
#include <vector>

#include "io/blocking_pool.h"
#include "io/engine.h"

namespace bb::io {

// Operations as system calls that do not wait: on sockets tried at once and again when epoll says
// so, on files by a pool of threads. For where io_uring is refused (docs/decisions/005).
class EpollEngine final : public Engine {
 public:
  static Result<std::unique_ptr<EpollEngine>> create();
  ~EpollEngine() override;

  void start() override {}
  void submit(EngineOp& op) override { submitted_.push_back(op); }
  void cancel(EngineOp& op) override;
  void close(int fd) override;
  void forget(int fd) override;
  void flush() override;
  bool look() override;
  bool may_spin() const override { return true; }
  void sleep(std::optional<uint64_t> deadline_ns, uint64_t now_ns) override;
  void reap() override;
  void wake() override;
  Result<int> poll_fd() override { return epoll_fd_; }
  void heard() override {}

 private:
  // What is known of a descriptor. At most one operation waits each way.
  struct Descriptor {
    EngineOp* reader = nullptr;
    EngineOp* writer = nullptr;
    bool watched = false;     // in the epoll set, edge-triggered, until it is closed
    bool unreadable = false;  // as of the last attempt; an edge ends it
    bool unwritable = false;
    bool connecting = false;  // the writer
    bool flags_known = false;
    bool never_cached = false;  // O_DIRECT, or a file system that cannot say "it would wait"
  };

  EpollEngine() = default;
  Status init();
  Descriptor& descriptor(int fd);
  void start_submitted();
  void try_socket(EngineOp& op);
  void try_file(EngineOp& op);
  void park(EngineOp& op, Descriptor& at);
  bool watch(EngineOp& op, Descriptor& at);
  void end(EngineOp& op, int32_t result);
  bool something_ended() const { return woken_ || !ended_.empty() || pool_.has_ended(); }
  void wait(const timespec* timeout);
  void set_timer(const timespec* timeout);
  void on_event(const epoll_event& event);

  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  int timer_fd_ = -1;                    // where epoll_pwait2 is missing
  bool woken_ = false;                   // since the last reap()
  std::vector<Descriptor> descriptors_;  // by their numbers
  EngineOpQueue submitted_;
  EngineOpQueue for_pool_;
  EngineOpQueue ended_;
  BlockingPool pool_{*this};
};

}  // namespace bb::io
