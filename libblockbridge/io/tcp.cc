// SPDX-License-Identifier: Apache-2.0
#include "io/tcp.h"

#include <netdb.h>

#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "io/engine_wait.h"
#include "io/socket_address.h"
#include "io/socket_listener.h"
#include "io/socket_stream.h"

namespace bb::io {
namespace {

struct ConnectWait final : EngineWait {
  int socket;
  const SocketAddress& to;
  struct Alarm : Timer {
    ConnectWait* wait = nullptr;
  } alarm;
  bool expired = false;
  ConnectWait(Reactor& r, int f, const SocketAddress& t, uint64_t deadline_ns)
      : EngineWait(r), socket(f), to(t) {
    alarm.deadline_ns = deadline_ns;
  }
  void start() override {
    reactor.connect(*this, socket, to.get(), to.length);
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

class TcpNetwork final : public Network {
 public:
  TcpNetwork(Reactor& reactor, Offload* offload) : reactor_(reactor), offload_(offload) {}

  Task<Result<std::unique_ptr<Stream>>> connect(Address to, uint64_t deadline_ns) override {
    Result<SocketAddress> address = co_await resolve(to.text);
    if (!address.ok()) co_return address.status();
    int fd = ::socket(address->family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) co_return error(Code::k_no_space, "{}: socket: {}", to.text, std::strerror(errno));
    int32_t rc = co_await connect_socket(fd, &*address, deadline_ns);
    if (rc < 0) {
      reactor_.close(fd);
      Code code = rc == -ETIMEDOUT ? Code::k_timed_out
                  : rc == -ENOENT  ? Code::k_unavailable
                  : rc == -EACCES  ? Code::k_permission_denied
                                   : Code::k_unavailable;
      co_return error(code, "{}: cannot connect: {}", to.text, std::strerror(-rc));
    }
    set_no_delay(fd, address->family());
    co_return make_socket_stream(reactor_, fd, to.text);
  }

  Result<std::unique_ptr<Listener>> listen(Address at) override {
    return listen_on(reactor_, at.text);
  }

 private:
  // A Unix listener without room makes io_uring wait and epoll say EAGAIN: then again, soon.
  Task<int32_t> connect_socket(int fd, const SocketAddress* to, uint64_t deadline_ns) {
    for (;;) {
      ConnectWait wait(reactor_, fd, *to, deadline_ns);
      int32_t rc = co_await wait;
      if (rc != -EAGAIN) co_return rc;
      if (reactor_.now_ns() >= deadline_ns) co_return -ETIMEDOUT;
      co_await reactor_.sleep_for(kNsPerMs);
    }
  }

  Task<Result<SocketAddress>> resolve(std::string text) {
    if (text.starts_with(kUnixPrefix)) {
      co_return SocketAddress::of_unix(text.substr(kUnixPrefix.size()));
    }
    Result<SocketAddress> found = SocketAddress::to_connect(text, AI_NUMERICHOST);
    if (found.ok() || offload_ == nullptr) co_return found;
    co_await offload_->run(reactor_, [&] { found = SocketAddress::to_connect(text, 0); });
    co_return found;
  }

  Reactor& reactor_;
  Offload* offload_;
};

}  // namespace

std::unique_ptr<Network> make_tcp_network(Reactor& reactor, Offload* offload) {
  return std::make_unique<TcpNetwork>(reactor, offload);
}

}  // namespace bb::io
