// SPDX-License-Identifier: Apache-2.0
#include "io/blocking_pool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/check.h"

namespace bb::io {
namespace {

ssize_t call(const EngineOp& op, int flags) {
  auto* iov = static_cast<const iovec*>(op.memory);
  auto count = static_cast<int>(op.length);
  auto at = static_cast<off_t>(op.offset);
  int all_flags = static_cast<int>(op.flags) | flags;
  switch (op.kind) {
    case EngineOp::Kind::kReadv:
      return ::preadv2(op.fd, iov, count, at, all_flags);
    case EngineOp::Kind::kWritev:
      return ::pwritev2(op.fd, iov, count, at, all_flags);
    case EngineOp::Kind::kFdatasync:
      return ::fdatasync(op.fd);
    case EngineOp::Kind::kFallocate:
      return ::fallocate(op.fd, static_cast<int>(op.flags), at, static_cast<off_t>(op.length));
    case EngineOp::Kind::kRecv:
    case EngineOp::Kind::kRecvmsg:
    case EngineOp::Kind::kSend:
    case EngineOp::Kind::kSendmsg:
    case EngineOp::Kind::kAccept:
    case EngineOp::Kind::kConnect:
    case EngineOp::Kind::kReadable:
      break;
  }
  BB_CHECK(false, "operation {} is none on a file", static_cast<int>(op.kind));
  return -1;
}

}  // namespace

int32_t run_blocking(const EngineOp& op, int flags) {
  ssize_t result = call(op, flags);
  return result < 0 ? -errno : static_cast<int32_t>(result);
}

void BlockingPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    line_ = {};
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

// Wakes one thread only: whoever leaves more in the line than it takes wakes or begins the next.
// The loop pays for one wake-up, and short operations end on a thread or two.
void BlockingPool::submit(EngineOpQueue& ops) {
  if (ops.empty()) return;
  bool alone = false;
  {
    std::lock_guard lock(mutex_);
    line_.append(ops);
    if (may_begin_thread()) alone = !begin_thread() && threads_.empty();
  }
  if (!alone) return wake_.notify_one();
  while (EngineOp* op = line_.pop_front()) {  // not one thread to be had: the loop itself, slowly
    op->result = run_blocking(*op);
    end(*op);
  }
}

bool BlockingPool::begin_thread() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the host's own threads
  bool begun = true;
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    begun = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return begun;
}

bool BlockingPool::take_back(EngineOp& op) {
  std::lock_guard lock(mutex_);
  return line_.remove(op);
}

void BlockingPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!stopping_ && line_.empty()) {
      ++idle_;
      wake_.wait(lock);
      --idle_;
    }
    if (stopping_) return;
    EngineOp* op = line_.pop_front();
    bool more = !line_.empty();
    if (more && may_begin_thread()) more = !begin_thread();
    lock.unlock();
    if (more) wake_.notify_one();
    op->result = run_blocking(*op);
    end(*op);
    lock.lock();
  }
}

void BlockingPool::end(EngineOp& op) {
  EngineOp* head = ended_.load(std::memory_order_relaxed);
  do {
    op.next = head;
  } while (!ended_.compare_exchange_weak(head, &op, std::memory_order_release,
                                         std::memory_order_relaxed));
  if (head == nullptr) engine_.wake();  // else whoever came first has done it
}

void BlockingPool::take_ended(EngineOpQueue* to) {
  if (!has_ended()) return;
  EngineOp* head = ended_.exchange(nullptr, std::memory_order_acquire);
  EngineOp* in_order = nullptr;
  while (head != nullptr) {
    EngineOp* next = head->next;
    head->next = in_order;
    in_order = head;
    head = next;
  }
  while (in_order != nullptr) {
    EngineOp* next = in_order->next;
    to->push_back(*in_order);
    in_order = next;
  }
}

}  // namespace bb::io
