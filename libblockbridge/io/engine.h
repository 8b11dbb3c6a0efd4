// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/status.h"

namespace bb::io {

enum class EngineKind : uint8_t { kAuto, kUring, kEpoll };
std::string_view engine_name(EngineKind kind);  // auto, io_uring, epoll
Result<EngineKind> parse_engine(std::string_view name);

// One operation: what is to be done, as one system call would be told, and what to call when it is
// done. Lives in its waiter. `complete` runs exactly once, on the loop and never within submit() or
// cancel(), with what the call returned or minus its errno. The operation may be submitted again as
// it is.
struct EngineOp {
  enum class Kind : uint8_t {
    kRecv,       // memory, length
    kRecvmsg,    // memory: a msghdr
    kSend,       // memory, length, flags
    kSendmsg,    // memory: a msghdr; flags
    kAccept,     // flags; memory: null
    kConnect,    // memory: a sockaddr; length
    kReadable,   // completes when something could be read; memory: null
    kReadv,      // memory: iovecs; length: how many; offset, flags
    kWritev,     // the same
    kFdatasync,  // memory: null
    kFallocate,  // offset, length; flags: its mode
  };

  void (*complete)(EngineOp* op, int32_t result) = nullptr;
  EngineOp* next = nullptr;  // for an engine that keeps lists
  void* memory = nullptr;
  uint64_t length = 0;
  uint64_t offset = 0;
  int32_t fd = -1;
  uint32_t flags = 0;
  int32_t result = 0;  // of an operation that has ended and waits to be completed
  Kind kind = Kind::kRecv;
};

// Operations in a row.
class EngineOpQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  void push_back(EngineOp& op);
  void append(EngineOpQueue& others);  // which is empty then
  EngineOp* pop_front();               // null when empty
  bool remove(EngineOp& op);           // false when it is not there

 private:
  EngineOp* first_ = nullptr;
  EngineOp* last_ = nullptr;
};

// What the loop asks of the kernel: operations, and waiting for them. One thread uses it, from
// start() on; wake() is for all threads.
class Engine {
 public:
  virtual ~Engine() = default;

  // By the thread that the loop belongs to from now on.
  virtual void start() = 0;

  virtual void submit(EngineOp& op) = 0;
  // Asks; the operation still completes, with -ECANCELED or what it had.
  virtual void cancel(EngineOp& op) = 0;
  // Closes a descriptor that operations were submitted for; none is pending.
  virtual void close(int fd) = 0;
  // Lets go of such a descriptor, which stays open: it is another engine's from now on.
  virtual void forget(int fd) = 0;

  // Hands all that was submitted to the kernel, and looks for what has ended without waiting.
  virtual void flush() = 0;
  // The second half of it alone: whether something has ended.
  virtual bool look() = 0;
  // Whether looking again and again costs less than to be woken.
  virtual bool may_spin() const = 0;
  // flush(), then waits until something has ended, wake() is called or the time has come.
  virtual void sleep(std::optional<uint64_t> deadline_ns, uint64_t now_ns) = 0;
  // Completes what has ended.
  virtual void reap() = 0;
  // Ends a sleep(), this one or the next.
  virtual void wake() = 0;

  // For a host's own event loop: a descriptor that becomes readable when reap() will have something
  // to do. heard() before looking, so that no ring of the bell is missed.
  virtual Result<int> poll_fd() = 0;
  virtual void heard() = 0;
};

}  // namespace bb::io
