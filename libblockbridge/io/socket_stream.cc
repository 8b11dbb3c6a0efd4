// SPDX-License-Identifier: Apache-2.0
#include "io/socket_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "io/socket_address.h"
#include "io/sync.h"

namespace bb::io {
namespace {

Status lost(const std::string& peer, int number) {
  return error(Code::k_unavailable, "{}: connection lost: {}", peer, std::strerror(number));
}

class SocketStream final : public Stream {
 public:
  SocketStream(Reactor& reactor, int fd, std::string peer)
      : reactor_(&reactor), fd_(fd), peer_(std::move(peer)), gate_(reactor) {}
  ~SocketStream() override { reactor_->close(fd_); }

  void recv(StreamOp& op) override {
    Pending* pending = begin(op);
    issue_recv(*pending);
  }

  void send(StreamOp& op) override {
    Pending* pending = begin(op);
    pending->sends = true;
    issue_send(*pending);
  }

  bool sends_at_once() const override { return true; }

  // Not by the ring: the peer may begin before the loop comes to hand over what else it has.
  Result<size_t> send_at_once(const iovec* iov, size_t iov_count) override {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(iov);
    message.msg_iovlen = std::min<size_t>(iov_count, IOV_MAX);
    for (;;) {
      ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) return static_cast<size_t>(sent);
      if (errno == EAGAIN) return size_t{0};
      if (errno != EINTR) return lost(peer_, errno);
    }
  }

  void shutdown() override { ::shutdown(fd_, SHUT_RDWR); }

  // Connecting to nowhere is how TCP is told to forget what it has not sent and to send a reset
  // now; with no time to linger, closing does the same where that is refused.
  void abort() override {
    linger none{.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    (void)::connect(fd_, &nowhere, sizeof nowhere);
    ::shutdown(fd_, SHUT_RDWR);
  }

  bool move_to(Reactor& there) override {
    reactor_->forget(fd_);
    reactor_ = &there;
    gate_.move_to(there);
    return true;
  }

  Task<void> close() override {
    ::shutdown(fd_, SHUT_RDWR);
    co_await gate_.close();
  }

  const std::string& peer() const override { return peer_; }

  std::string local() const override {
    SocketAddress address = SocketAddress::local_of(fd_);
    bool named = address.length > 0 && address.family() != AF_UNIX;
    return named ? address.to_string() : std::string();
  }

 private:
  struct Pending final : EngineOp {
    SocketStream* stream = nullptr;
    StreamOp* op = nullptr;
    bool sends = false;
    uint64_t sent = 0;
    iovec rest{};  // what a short send left of one iovec
    msghdr message{};
  };
  static_assert(sizeof(Pending) <= sizeof(StreamOp::scratch));

  Pending* begin(StreamOp& op) {
    bool entered = gate_.enter();
    BB_CHECK(entered, "{}: used while closing", peer_);
    auto* pending = new (op.scratch) Pending;
    pending->stream = this;
    pending->op = &op;
    pending->message.msg_iov = const_cast<iovec*>(op.iov);
    pending->message.msg_iovlen = std::min<size_t>(op.iov_count, IOV_MAX);
    pending->complete = [](EngineOp* done, int32_t result) {
      auto* self = static_cast<Pending*>(done);
      self->stream->completed(*self, result);
    };
    return pending;
  }

  void issue_recv(Pending& pending) {
    if (pending.op->iov_count == 1) {
      reactor_->recv(pending, fd_, *pending.op->iov);
    } else {
      reactor_->recvmsg(pending, fd_, &pending.message);
    }
  }

  // MSG_WAITALL makes io_uring itself go on after a short send, but for a signal or an iovec
  // longer than it takes at once: then go_on_sending() does.
  void issue_send(Pending& pending) {
    if (pending.message.msg_iovlen == 1) {
      reactor_->send(pending, fd_, *pending.message.msg_iov, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
      reactor_->sendmsg(pending, fd_, &pending.message, MSG_NOSIGNAL | MSG_WAITALL);
    }
  }

  static uint64_t iov_bytes(const StreamOp& op) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < op.iov_count; ++i) total += op.iov[i].iov_len;
    return total;
  }

  // False when all is sent.
  bool go_on_sending(Pending& pending) {
    const StreamOp& op = *pending.op;
    uint64_t skip = pending.sent;
    uint32_t i = 0;
    while (i < op.iov_count && skip >= op.iov[i].iov_len) skip -= op.iov[i++].iov_len;
    if (i == op.iov_count) return false;
    pending.message.msg_iov = const_cast<iovec*>(op.iov + i);
    pending.message.msg_iovlen = std::min<size_t>(op.iov_count - i, IOV_MAX);
    if (skip > 0) {  // inside an iovec, which is not ours to change
      pending.rest = {.iov_base = static_cast<std::byte*>(op.iov[i].iov_base) + skip,
                      .iov_len = op.iov[i].iov_len - skip};
      pending.message.msg_iov = &pending.rest;
      pending.message.msg_iovlen = 1;
    }
    issue_send(pending);
    return true;
  }

  void completed(Pending& pending, int32_t result) {
    if (result == -EINTR || result == -EAGAIN) return reactor_->submit(pending);
    StreamOp& op = *pending.op;
    Result<size_t> length = static_cast<size_t>(result < 0 ? 0 : result);
    if (result < 0) {
      length = lost(peer_, -result);
    } else if (pending.sends) {
      pending.sent += static_cast<uint64_t>(result);
      if (result > 0 && go_on_sending(pending)) return;
      length = static_cast<size_t>(pending.sent);
      if (pending.sent < iov_bytes(op)) length = lost(peer_, EPIPE);
    }
    pending.~Pending();
    op.done(&op, std::move(length));
    gate_.leave();  // last: whoever closes the stream waits for this
  }

  Reactor* reactor_;
  int fd_;
  std::string peer_;
  Gate gate_;
};

}  // namespace

std::unique_ptr<Stream> make_socket_stream(Reactor& reactor, int fd, std::string peer) {
  return std::make_unique<SocketStream>(reactor, fd, std::move(peer));
}

}  // namespace bb::io
