// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <memory>

#include "base/status.h"
#include "io/engine.h"
#include "io/loop.h"

namespace bb::io {

class UringEngine;

struct ReactorOptions {
  EngineKind engine = EngineKind::kAuto;
  bool spin = true;  // look for completions a moment before sleeping, as long as that pays
};

// The real loop: single-threaded, on one engine. Sleeps in the kernel when nothing is to do.
// Created anywhere; the first thread that calls run(), run_once() or poll_fd() owns it from then
// on.
class Reactor final : public Loop {
 public:
  // kAuto: io_uring, or epoll with a line in the log, the first time, where the kernel or a sandbox
  // refuses io_uring. kUring is NOT_SUPPORTED there, with the errno in the text.
  static Result<std::unique_ptr<Reactor>> create(ReactorOptions options = {});
  ~Reactor() override;

  uint64_t now_ns() const override;
  void begin_batch() override { batch_ns_ = now_ns(); }
  uint64_t wall_ns() const override;
  Prng& prng() override { return prng_; }
  void post(Work& work) override { ready_.push_back(work); }
  void post_remote(Work& work) override;
  void arm(Timer& timer, uint64_t deadline_ns) override { timers_.arm(timer, deadline_ns); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }
  bool run_once(bool wait) override;         // never from something it runs
  uint64_t spins() const { return spins_; }  // how often it looked for something before sleeping
  bool inside() const { return inside_; }    // in run_once() at this moment
  // Work that was posted and has not run: an empty loop is not yet an idle one.
  bool has_posted() const {
    return !ready_.empty() || remote_.load(std::memory_order_acquire) != nullptr;
  }

  void run();   // until stop()
  void stop();  // from any thread

  // For a host's own event loop: readable when run_once(false) has something to do. Call
  // prepare_poll() before going to sleep on it.
  Result<int> poll_fd();
  void prepare_poll();

  // Operations: each says in `op` what is to be done and hands it to the engine, which tells the
  // kernel of all of them together, before the loop waits. What `op` points to stays until it
  // completes.
  void submit(EngineOp& op) { engine_->submit(op); }  // as it is: once more
  void cancel(EngineOp& op) { engine_->cancel(op); }
  void close(int fd) { engine_->close(fd); }    // what operations were submitted for
  void forget(int fd) { engine_->forget(fd); }  // the same, which another reactor goes on with

  void recv(EngineOp& op, int fd, const iovec& into);
  void recvmsg(EngineOp& op, int fd, msghdr* message);
  void send(EngineOp& op, int fd, const iovec& from, int flags);
  void sendmsg(EngineOp& op, int fd, msghdr* message, int flags);
  void accept(EngineOp& op, int fd, int flags);
  void connect(EngineOp& op, int fd, const sockaddr* to, socklen_t length);
  void readable(EngineOp& op, int fd);  // completes when there is something to read
  void readv(EngineOp& op, int fd, const iovec* iov, uint32_t count, uint64_t offset);
  void writev(EngineOp& op, int fd, const iovec* iov, uint32_t count, uint64_t offset, int flags);
  void fdatasync(EngineOp& op, int fd);
  void fallocate(EngineOp& op, int fd, int mode, uint64_t offset, uint64_t length);

  EngineKind engine() const { return uring_ != nullptr ? EngineKind::kUring : EngineKind::kEpoll; }
  // For entries of kinds that EngineOp does not know; null on another engine.
  UringEngine* uring() { return uring_; }

 private:
  Reactor(std::unique_ptr<Engine> engine, UringEngine* uring, bool spin);
  void start();
  void take_remote();
  void run_ready();
  void fire_timers();
  void enter(bool wait);
  bool spin(uint64_t started_ns);
  Status make_poll_fd();

  std::unique_ptr<Engine> engine_;
  UringEngine* uring_;
  const bool may_spin_;
  bool started_ = false;
  bool inside_ = false;
  bool last_wait_short_ = false;
  uint32_t spin_skip_ = 0;
  uint64_t spins_ = 0;
  uint32_t spin_penalty_ = 1;
  int epoll_fd_ = -1;  // host-driven: of the engine's descriptor and the timer
  int timer_fd_ = -1;
  uint64_t poll_deadline_ns_ = 0;
  std::atomic<Work*> remote_{nullptr};
  std::atomic<bool> stopping_{false};
  WorkList ready_;
  TimerQueue timers_;
  Prng prng_;
};

inline void Reactor::recv(EngineOp& op, int fd, const iovec& into) {
  op.kind = EngineOp::Kind::kRecv;
  op.fd = fd;
  op.memory = into.iov_base;
  op.length = into.iov_len;
  engine_->submit(op);
}

inline void Reactor::recvmsg(EngineOp& op, int fd, msghdr* message) {
  op.kind = EngineOp::Kind::kRecvmsg;
  op.fd = fd;
  op.memory = message;
  engine_->submit(op);
}

inline void Reactor::send(EngineOp& op, int fd, const iovec& from, int flags) {
  op.kind = EngineOp::Kind::kSend;
  op.fd = fd;
  op.memory = from.iov_base;
  op.length = from.iov_len;
  op.flags = static_cast<uint32_t>(flags);
  engine_->submit(op);
}

inline void Reactor::sendmsg(EngineOp& op, int fd, msghdr* message, int flags) {
  op.kind = EngineOp::Kind::kSendmsg;
  op.fd = fd;
  op.memory = message;
  op.flags = static_cast<uint32_t>(flags);
  engine_->submit(op);
}

inline void Reactor::readv(EngineOp& op, int fd, const iovec* iov, uint32_t count,
                           uint64_t offset) {
  op.kind = EngineOp::Kind::kReadv;
  op.fd = fd;
  op.memory = const_cast<iovec*>(iov);
  op.length = count;
  op.offset = offset;
  op.flags = 0;
  engine_->submit(op);
}

inline void Reactor::writev(EngineOp& op, int fd, const iovec* iov, uint32_t count, uint64_t offset,
                            int flags) {
  op.kind = EngineOp::Kind::kWritev;
  op.fd = fd;
  op.memory = const_cast<iovec*>(iov);
  op.length = count;
  op.offset = offset;
  op.flags = static_cast<uint32_t>(flags);
  engine_->submit(op);
}

}  // namespace bb::io
