// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "base/status.h"

namespace bb::io {

constexpr std::string_view kUnixPrefix = "unix:";

// Where a socket is bound or connects to, as the kernel wants it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  std::string to_string() const;  // "127.0.0.1:4420", "[::1]:4420", "unix:/path"

  static Result<SocketAddress> of_unix(const std::string& path);
  // "host:port". May look up a name, which blocks, unless `flags` has AI_NUMERICHOST.
  static Result<SocketAddress> to_connect(const std::string& text, int flags);
  static Result<SocketAddress> to_listen(const std::string& text);
  static SocketAddress local_of(int fd);  // length 0 when there is none
  static SocketAddress peer_of(int fd);
};

void set_no_delay(int fd, int family);

// For a listener; whoever it accepts inherits it. A peer that has vanished without a word (power,
// cable, a frozen machine) is asked after kPeerIdleSeconds and given up, be it idle or owing an
// acknowledgement, after kPeerSilenceMs: what it held here is free again, whatever the protocol
// above knows of time limits. As long as NBD lets a client stall that still answers.
inline constexpr int kPeerIdleSeconds = 30;
inline constexpr int kPeerProbeSeconds = 10;
inline constexpr unsigned kPeerSilenceMs = 120'000;
void watch_peers(int listener, int family);

}  // namespace bb::io
