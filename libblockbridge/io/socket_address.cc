// SPDX-License-Identifier: Apache-2.0
#include "io/socket_address.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <cstring>

#include "base/uri.h"

namespace bb::io {
namespace {

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

}  // namespace

std::string SocketAddress::to_string() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_UNIX) {
    return std::string("unix:") + reinterpret_cast<const sockaddr_un*>(&storage)->sun_path;
  }
  char service[16] = "";
  getnameinfo(get(), length, text, sizeof text, service, sizeof service,
              NI_NUMERICHOST | NI_NUMERICSERV);
  return family() == AF_INET6 ? fmt::format("[{}]:{}", text, service)
                              : fmt::format("{}:{}", text, service);
}

Result<SocketAddress> SocketAddress::of_unix(const std::string& path) {
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

Result<SocketAddress> SocketAddress::to_connect(const std::string& text, int flags) {
  BB_ASSIGN(HostPort at, HostPort::parse(text));
  if (at.port == 0) return error(Code::k_invalid_argument, "{}: no port", text);
  return tcp_address(at, false, flags);
}

Result<SocketAddress> SocketAddress::to_listen(const std::string& text) {
  BB_ASSIGN(HostPort at, HostPort::parse(text));
  return tcp_address(at, true, AI_NUMERICHOST);
}

SocketAddress SocketAddress::local_of(int fd) {
  SocketAddress address;
  socklen_t length = sizeof address.storage;
  bool known = getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &length) == 0;
  if (known) address.length = length;
  return address;
}

SocketAddress SocketAddress::peer_of(int fd) {
  SocketAddress address;
  socklen_t length = sizeof address.storage;
  bool known = getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &length) == 0;
  if (known) address.length = length;
  return address;
}

void set_no_delay(int fd, int family) {
  int one = 1;
  if (family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void watch_peers(int listener, int family) {
  if (family == AF_UNIX) return;
  int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &kPeerIdleSeconds, sizeof kPeerIdleSeconds);
  setsockopt(listener, IPPROTO_TCP, TCP_KEEPINTVL, &kPeerProbeSeconds, sizeof kPeerProbeSeconds);
  setsockopt(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, &kPeerSilenceMs, sizeof kPeerSilenceMs);
}

}  // namespace bb::io
