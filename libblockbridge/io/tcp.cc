// SPDX-License-Identifier: Apache-2.0
#include "io/tcp.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

#include "base/uri.h"
#include "io/sync.h"

namespace bb::io {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::string describe(const SocketAddress& address);

Status lost(const std::string& peer, int number) {
  return error(Code::k_unavailable, "{}: connection lost: {}", peer, std::strerror(number));
}

// An await on one ring operation.
struct UringWait : UringOp {
  Reactor& reactor;
  std::coroutine_handle<> waiter;
  int32_t result = 0;
  explicit UringWait(Reactor& r) : reactor(r) {
    complete = [](UringOp* op, int32_t res) {
      auto* self = static_cast<UringWait*>(op);
      self->result = res;
      Trampoline::run(self->waiter);
    };
  }
  UringWait(const UringWait&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) {
    waiter = caller;
    issue(reactor.prepare(*this));
    // prep functions may clear user_data
  }
  int32_t await_resume() const { return result; }
  virtual void issue(io_uring_sqe* sqe) = 0;

 protected:
  ~UringWait() = default;
};

struct AcceptWait final : UringWait {
  int fd;
  AcceptWait(Reactor& r, int f) : UringWait(r), fd(f) {}
  void issue(io_uring_sqe* sqe) override {
    io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, static_cast<UringOp*>(this));
  }
};

struct ConnectWait final : UringWait {
  int fd;
  const SocketAddress& to;
  struct Alarm : Timer {
    ConnectWait* wait = nullptr;
  } alarm;
  bool expired = false;
  ConnectWait(Reactor& r, int f, const SocketAddress& t, uint64_t deadline_ns)
      : UringWait(r), fd(f), to(t) {
    alarm.deadline_ns = deadline_ns;
  }
  void issue(io_uring_sqe* sqe) override {
    io_uring_prep_connect(sqe, fd, to.get(), to.length);
    io_uring_sqe_set_data(sqe, static_cast<UringOp*>(this));
    alarm.wait = this;
    alarm.fire = [](Timer* timer) {
      ConnectWait* wait = static_cast<Alarm*>(timer)->wait;
      wait->expired = true;
      wait->reactor.cancel(*wait);
    };
    reactor.arm(alarm, alarm.deadline_ns);
  }
  int32_t await_resume() {
    reactor.disarm(alarm);
    return expired && result < 0 ? -ETIMEDOUT : result;
  }
};

class SocketStream final : public Stream {
 public:
  SocketStream(Reactor& reactor, int fd, std::string peer)
      : reactor_(reactor), fd_(fd), peer_(std::move(peer)), gate_(reactor) {}
  ~SocketStream() override { ::close(fd_); }

  void recv(StreamOp& op) override {
    Pending* pending = begin(op);
    issue_recv(*pending);
  }

  void send(StreamOp& op) override {
    Pending* pending = begin(op);
    pending->sends = true;
    issue_send(*pending);
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

  Task<void> close() override {
    ::shutdown(fd_, SHUT_RDWR);
    co_await gate_.close();
  }

  const std::string& peer() const override { return peer_; }

  std::string local() const override {
    SocketAddress address;
    address.length = sizeof address.storage;
    bool known =
        getsockname(fd_, reinterpret_cast<sockaddr*>(&address.storage), &address.length) == 0;
    return known && address.family() != AF_UNIX ? describe(address) : std::string();
  }

 private:
  struct Pending final : UringOp {
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
    pending->complete = [](UringOp* done, int32_t result) {
      auto* self = static_cast<Pending*>(done);
      self->stream->completed(*self, result);
    };
    return pending;
  }

  void issue_recv(Pending& pending) {
    io_uring_sqe* sqe = reactor_.prepare(pending);
    if (pending.op->iov_count == 1) {
      io_uring_prep_recv(sqe, fd_, pending.op->iov->iov_base, pending.op->iov->iov_len, 0);
    } else {
      io_uring_prep_recvmsg(sqe, fd_, &pending.message, 0);
    }
    io_uring_sqe_set_data(sqe, static_cast<UringOp*>(&pending));
  }

  // MSG_WAITALL makes the kernel itself go on after a short send, but for a signal or an iovec
  // longer than it takes at once: then go_on_sending() does.
  void issue_send(Pending& pending) {
    io_uring_sqe* sqe = reactor_.prepare(pending);
    if (pending.message.msg_iovlen == 1) {
      io_uring_prep_send(sqe, fd_, pending.message.msg_iov->iov_base,
                         pending.message.msg_iov->iov_len, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
      io_uring_prep_sendmsg(sqe, fd_, &pending.message, MSG_NOSIGNAL | MSG_WAITALL);
    }
    io_uring_sqe_set_data(sqe, static_cast<UringOp*>(&pending));
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
    if (result == -EINTR || result == -EAGAIN) {
      return pending.sends ? issue_send(pending) : issue_recv(pending);
    }
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

  Reactor& reactor_;
  int fd_;
  std::string peer_;
  Gate gate_;
};

std::string describe(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.family() == AF_UNIX) {
    return std::string("unix:") + reinterpret_cast<const sockaddr_un*>(&address.storage)->sun_path;
  }
  char service[16] = "";
  getnameinfo(address.get(), address.length, text, sizeof text, service, sizeof service,
              NI_NUMERICHOST | NI_NUMERICSERV);
  return address.family() == AF_INET6 ? fmt::format("[{}]:{}", text, service)
                                      : fmt::format("{}:{}", text, service);
}

std::string peer_of(int fd) {
  SocketAddress address;
  address.length = sizeof address.storage;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0)
    return "?";
  return describe(address);
}

void set_no_delay(int fd, int family) {
  int one = 1;
  if (family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

class SocketListener final : public Listener {
 public:
  SocketListener(Reactor& reactor, int fd, std::string address, std::string unix_path, int family)
      : reactor_(reactor),
        fd_(fd),
        address_(std::move(address)),
        unix_path_(std::move(unix_path)),
        family_(family),
        gate_(reactor) {}
  ~SocketListener() override {
    ::close(fd_);
    if (!unix_path_.empty()) ::unlink(unix_path_.c_str());
  }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    auto cancelled = [this] { return error(Code::k_cancelled, "{}: stopped listening", address_); };
    if (stopped_ || !gate_.enter()) co_return cancelled();
    AcceptWait wait(reactor_, fd_);
    int32_t fd = 0;
    do {
      waiting_ = &wait;
      fd = co_await wait;
      waiting_ = nullptr;
    } while (!stopped_ && (fd == -EINTR || fd == -ECONNABORTED));
    gate_.leave();
    if (stopped_) {
      if (fd >= 0) ::close(fd);
      co_return cancelled();
    }
    if (fd < 0) {
      co_return error(fd == -EMFILE || fd == -ENFILE ? Code::k_no_space : Code::k_io_error,
                      "{}: accept: {}", address_, std::strerror(-fd));
    }
    set_no_delay(fd, family_);
    co_return std::unique_ptr<Stream>(
        std::make_unique<SocketStream>(reactor_, fd, family_ == AF_UNIX ? address_ : peer_of(fd)));
  }

  void shutdown() override {
    stopped_ = true;
    if (waiting_ != nullptr) reactor_.cancel(*waiting_);
  }

  Task<void> close() override {
    shutdown();
    co_await gate_.close();
  }

  std::string local_address() const override { return address_; }

 private:
  Reactor& reactor_;
  int fd_;
  std::string address_;
  std::string unix_path_;
  int family_;
  Gate gate_;
  UringOp* waiting_ = nullptr;
  bool stopped_ = false;
};

Result<SocketAddress> unix_address(const std::string& path) {
  SocketAddress address;
  auto* un = reinterpret_cast<sockaddr_un*>(&address.storage);
  un->sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof un->sun_path) {
    return error(Code::k_invalid_argument, "unix:{}: the path has {} bytes, allowed are 1 to {}",
                 path, path.size(), sizeof un->sun_path - 1);
  }
  std::memcpy(un->sun_path, path.c_str(), path.size() + 1);
  address.length = static_cast<socklen_t>(sizeof *un);
  return address;
}

Result<SocketAddress> tcp_address(const HostPort& at, bool passive, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  std::string port = std::to_string(at.port);
  int rc = getaddrinfo(at.host.empty() ? nullptr : at.host.c_str(), port.c_str(), &hints, &found);
  if (rc != 0) {
    return error(rc == EAI_AGAIN ? Code::k_unavailable : Code::k_invalid_argument, "{}: {}",
                 at.to_string(), gai_strerror(rc));
  }
  SocketAddress address;
  address.length = found->ai_addrlen;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

constexpr std::string_view kUnix = "unix:";

class TcpNetwork final : public Network {
 public:
  TcpNetwork(Reactor& reactor, Offload* offload) : reactor_(reactor), offload_(offload) {}

  Task<Result<std::unique_ptr<Stream>>> connect(Address to, uint64_t deadline_ns) override {
    Result<SocketAddress> address = co_await resolve(to.text);
    if (!address.ok()) co_return address.status();
    int fd = ::socket(address->family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) co_return error(Code::k_no_space, "{}: socket: {}", to.text, std::strerror(errno));
    ConnectWait wait(reactor_, fd, *address, deadline_ns);
    int32_t rc = co_await wait;
    if (rc < 0) {
      ::close(fd);
      Code code = rc == -ETIMEDOUT ? Code::k_timed_out
                  : rc == -ENOENT  ? Code::k_unavailable
                  : rc == -EACCES  ? Code::k_permission_denied
                                   : Code::k_unavailable;
      co_return error(code, "{}: cannot connect: {}", to.text, std::strerror(-rc));
    }
    set_no_delay(fd, address->family());
    co_return std::unique_ptr<Stream>(std::make_unique<SocketStream>(reactor_, fd, to.text));
  }

  Result<std::unique_ptr<Listener>> listen(Address at) override {
    bool is_unix = at.text.starts_with(kUnix);
    Result<SocketAddress> address = is_unix ? unix_address(at.text.substr(kUnix.size()))
                                            : parse_tcp(at.text, true, AI_NUMERICHOST);
    BB_TRY(address);
    int fd = ::socket(address->family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return error(Code::k_no_space, "{}: socket: {}", at.text, std::strerror(errno));
    std::string path = is_unix ? at.text.substr(kUnix.size()) : "";
    Status bound = bind_and_listen(fd, *address, at.text, path);
    if (!bound.ok()) {
      ::close(fd);
      return bound;
    }
    SocketAddress local;
    local.length = sizeof local.storage;
    getsockname(fd, reinterpret_cast<sockaddr*>(&local.storage), &local.length);
    return std::unique_ptr<Listener>(std::make_unique<SocketListener>(
        reactor_, fd, is_unix ? at.text : describe(local), path, address->family()));
  }

 private:
  static Result<SocketAddress> parse_tcp(const std::string& text, bool passive, int flags) {
    BB_ASSIGN(HostPort at, HostPort::parse(text));
    if (!passive && at.port == 0) return error(Code::k_invalid_argument, "{}: no port", text);
    return tcp_address(at, passive, flags);
  }

  Task<Result<SocketAddress>> resolve(std::string text) {
    if (text.starts_with(kUnix)) co_return unix_address(text.substr(kUnix.size()));
    Result<SocketAddress> numeric = parse_tcp(text, false, AI_NUMERICHOST);
    if (numeric.ok() || offload_ == nullptr) co_return numeric;
    Result<SocketAddress> found = numeric;
    co_await offload_->run(reactor_, [&found, &text] { found = parse_tcp(text, false, 0); });
    co_return found;
  }

  // A socket file that nobody listens on any more is a leftover of a killed process: replace it.
  static void remove_stale_socket(const SocketAddress& address, const std::string& path) {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0 || !S_ISSOCK(st.st_mode)) return;
    // Not to wait for a listener whose queue is full: the loop must go on.
    int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return;
    if (::connect(probe, address.get(), address.length) != 0 && errno == ECONNREFUSED) {
      ::unlink(path.c_str());
    }
    ::close(probe);
  }

  static Status bind_and_listen(int fd, const SocketAddress& address, const std::string& text,
                                const std::string& unix_path) {
    int one = 1;
    if (!unix_path.empty()) {
      remove_stale_socket(address, unix_path);
      // The mode of the unbound socket is what bind gives the file: no moment when others may in.
      ::fchmod(fd, S_IRUSR | S_IWUSR);
    } else {
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    }
    if (::bind(fd, address.get(), address.length) != 0 || ::listen(fd, 1024) != 0) {
      Code code = errno == EADDRINUSE                         ? Code::k_already_exists
                  : errno == EACCES                           ? Code::k_permission_denied
                  : errno == EADDRNOTAVAIL || errno == ENOENT ? Code::k_invalid_argument
                                                              : Code::k_unavailable;
      return error(code, "{}: cannot listen: {}", text, std::strerror(errno));
    }
    return {};
  }

  Reactor& reactor_;
  Offload* offload_;
};

}  // namespace

std::unique_ptr<Network> make_tcp_network(Reactor& reactor, Offload* offload) {
  return std::make_unique<TcpNetwork>(reactor, offload);
}

}  // namespace bb::io
