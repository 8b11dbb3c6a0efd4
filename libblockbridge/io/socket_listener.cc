// SPDX-License-Identifier: Apache-2.0
#include "io/socket_listener.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io/engine_wait.h"
#include "io/socket_stream.h"
#include "io/sync.h"

namespace bb::io {
namespace {

struct AcceptWait final : EngineWait {
  int listener;
  AcceptWait(Reactor& r, int f) : EngineWait(r), listener(f) {}
  void start() override { reactor.accept(*this, listener, SOCK_CLOEXEC); }
};

std::string peer_name(int fd) {
  SocketAddress address = SocketAddress::peer_of(fd);
  return address.length > 0 ? address.to_string() : "?";
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
    reactor_.close(fd_);
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
    co_return make_socket_stream(reactor_, fd, family_ == AF_UNIX ? address_ : peer_name(fd));
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
  EngineOp* waiting_ = nullptr;
  bool stopped_ = false;
};

// A socket file that nobody listens on any more is a leftover of a killed process: replace it.
void remove_stale_socket(const SocketAddress& address, const std::string& path) {
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

Status bind_and_listen(int fd, const SocketAddress& address, const std::string& text,
                       const std::string& unix_path) {
  int one = 1;
  if (!unix_path.empty()) {
    remove_stale_socket(address, unix_path);
    // The mode of the unbound socket is what bind gives the file: no moment when others may in.
    ::fchmod(fd, S_IRUSR | S_IWUSR);
  } else {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    watch_peers(fd, address.family());
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

}  // namespace

Result<std::unique_ptr<Listener>> listen_on(Reactor& reactor, const std::string& text) {
  bool is_unix = text.starts_with(kUnixPrefix);
  std::string path = is_unix ? text.substr(kUnixPrefix.size()) : "";
  BB_ASSIGN(SocketAddress address,
            is_unix ? SocketAddress::of_unix(path) : SocketAddress::to_listen(text));
  int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return error(Code::k_no_space, "{}: socket: {}", text, std::strerror(errno));
  Status bound = bind_and_listen(fd, address, text, path);
  if (!bound.ok()) {
    ::close(fd);
    return bound;
  }
  std::string local = is_unix ? text : SocketAddress::local_of(fd).to_string();
  return std::unique_ptr<Listener>(std::make_unique<SocketListener>(
      reactor, fd, std::move(local), std::move(path), address.family()));
}

}  // namespace bb::io
