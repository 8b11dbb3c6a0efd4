// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/status.h"
#include "io/task.h"

namespace bb::io {

class Reactor;

// Where to listen or connect: "127.0.0.1:4420", "[::1]:4420", ":4420", "unix:/run/x.sock".
// In the simulator the host is a node's name.
struct Address {
  std::string text;
};

// One receive or send. A leaf like IoRequest: lives in its waiter until done.
struct StreamOp {
  using Done = void (*)(StreamOp* op, Result<size_t> length);

  const iovec* iov = nullptr;
  uint32_t iov_count = 0;
  Done done = nullptr;
  alignas(16) std::byte scratch[192];
};

// A reliable ordered stream of bytes: TCP, a Unix socket, or the simulator's. Belongs to one loop.
// At most one receive and one send at a time.
class Stream {
 public:
  virtual ~Stream() = default;

  // Leaves. recv completes with 1..n bytes, 0 at the peer's end of stream, or an error
  // (UNAVAILABLE: connection lost). send completes once all bytes are handed over.
  virtual void recv(StreamOp& op) = 0;
  virtual void send(StreamOp& op) = 0;

  // A send that waits for nothing, in place of send(): says how much it has taken, from none to
  // all, and has read what it took. UNAVAILABLE: the connection is lost. Only of a stream that can.
  virtual bool sends_at_once() const { return false; }
  virtual Result<size_t> send_at_once(const iovec* iov, size_t iov_count);

  // Ends both directions; a pending recv or send completes with an error or end of stream soon.
  virtual void shutdown() = 0;
  // shutdown() that also drops what was sent and has not arrived, as far as that is possible: for
  // whoever gives up on an answer and must not have the question arrive later.
  virtual void abort() { shutdown(); }
  // Between operations, and not from within a completion: leaves this loop for another's, on whose
  // thread alone it is used from then on. False: it stays, now or for good; close it.
  virtual bool move_to(Reactor& there) {
    (void)there;
    return false;
  }
  // Waits for pending ops (call shutdown first, or it waits for the peer), then frees the socket.
  virtual Task<void> close() = 0;

  virtual const std::string& peer() const = 0;  // for messages
  // "host:port" of our end, empty where there is none.
  virtual std::string local() const { return {}; }

  struct Op;
  Op recv_some(Bytes into);  // -> Result<size_t>
  Op recv_some(const iovec* iov, uint32_t iov_count);
  Op send_all(ConstBytes from);  // -> Result<size_t>, all of it
  Op send_all(const iovec* iov, uint32_t iov_count);
};

struct Stream::Op : StreamOp {
  Stream& stream;
  bool sends;
  iovec single{};
  Result<size_t> result{size_t{0}};
  std::coroutine_handle<> waiter;
  bool completed = false;

  Op(Stream& on, bool sending, iovec one) : stream(on), sends(sending), single(one) {
    iov_count = 1;
  }
  Op(Stream& on, bool sending, const iovec* many, uint32_t count) : stream(on), sends(sending) {
    iov = many;
    iov_count = count;
  }
  Op(const Op&) = delete;
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller);
  Result<size_t> await_resume() { return std::move(result); }
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;  // CANCELLED after shutdown()
  virtual void shutdown() = 0;
  virtual Task<void> close() = 0;
  virtual std::string local_address() const = 0;  // with the port the system chose
};

// The transport: real sockets (io/tcp.h) or the simulator's network.
class Network {
 public:
  virtual ~Network() = default;
  // UNAVAILABLE (refused, unreachable), TIMED_OUT at `deadline_ns`, INVALID_ARGUMENT (bad address).
  virtual Task<Result<std::unique_ptr<Stream>>> connect(Address to, uint64_t deadline_ns) = 0;
  virtual Result<std::unique_ptr<Listener>> listen(Address at) = 0;
};

// Receives exactly into.size() bytes; UNAVAILABLE when the stream ends before.
Task<Status> recv_exactly(Stream* stream, Bytes into);

}  // namespace bb::io
