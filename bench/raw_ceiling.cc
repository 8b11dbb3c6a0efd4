// SPDX-License-Identifier: Apache-2.0
// What the sockets of this machine can do at best: requests of R bytes one way, answers of A bytes
// the other, batched, without any protocol. `raw_ceiling serve|load --request R --answer A ...`
// With --spin both sides ask again and again instead of sleeping until something has come.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "load_report.h"

namespace {

using bb::bench::die;

struct Options {
  uint16_t port = 0;
  size_t request_bytes = 72;
  size_t answer_bytes = 4120;
  size_t depth = 32;
  double seconds = 1;
  bool spin = false;
};

constexpr size_t kBufferBytes = 1 << 20;

sockaddr_in local(uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(port);
  return at;
}

void set_no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

ssize_t receive(int fd, std::vector<char>& in, bool spin) {
  for (;;) {
    ssize_t got = recv(fd, in.data(), in.size(), spin ? MSG_DONTWAIT : 0);
    if (got >= 0 || errno != EAGAIN) return got;
  }
}

bool send_all(int fd, const char* from, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    from += sent;
    length -= static_cast<size_t>(sent);
  }
  return true;
}

// One client after another; answers as many as have arrived with one send.
int serve(const Options& options) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at = local(0);
  socklen_t length = sizeof at;
  if (bind(listener, reinterpret_cast<sockaddr*>(&at), length) != 0 || listen(listener, 8) != 0)
    die("listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length);
  std::printf("ready raw 127.0.0.1:%u\n", ntohs(at.sin_port));
  std::fflush(stdout);
  std::vector<char> in(kBufferBytes);
  std::vector<char> out(std::max(options.answer_bytes, kBufferBytes));
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    set_no_delay(fd);
    size_t pending = 0;
    for (;;) {
      ssize_t got = receive(fd, in, options.spin);
      if (got <= 0) break;
      pending += static_cast<size_t>(got);
      size_t left = pending / options.request_bytes * options.answer_bytes;
      pending %= options.request_bytes;
      bool there = true;  // until the client has left
      while (left > 0 && there) {
        size_t piece = std::min(left, out.size());
        there = send_all(fd, out.data(), piece);
        left -= piece;
      }
      if (!there) break;
    }
    close(fd);
  }
}

int load(const Options& options) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at = local(options.port);
  if (connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) die("connect");
  set_no_delay(fd);
  std::vector<char> in(kBufferBytes);
  std::vector<char> out(options.request_bytes * options.depth);
  std::vector<uint64_t> sent_ns(options.depth);  // answers come in order: a ring
  bb::bench::LoadReport report(options.seconds);
  uint64_t sent = 0;
  uint64_t answered = 0;
  size_t pending = 0;
  size_t free = options.depth;
  while (!report.over()) {
    uint64_t now = bb::bench::now_ns();
    for (size_t i = 0; i < free; ++i) sent_ns[sent++ % options.depth] = now;
    if (!send_all(fd, out.data(), free * options.request_bytes)) die("send");
    ssize_t got = receive(fd, in, options.spin);
    if (got <= 0) die("recv");
    pending += static_cast<size_t>(got);
    free = pending / options.answer_bytes;
    pending -= free * options.answer_bytes;
    now = bb::bench::now_ns();
    for (size_t i = 0; i < free; ++i) report.add(now, now - sent_ns[answered++ % options.depth]);
  }
  report.print();
  close(fd);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("The ceiling of the sockets", "raw_ceiling");
  std::string mode;
  app.add_option("mode", mode, "serve or load")->required();
  app.add_option("--port", options.port);
  app.add_option("--request", options.request_bytes);
  app.add_option("--answer", options.answer_bytes);
  app.add_option("--depth", options.depth);
  app.add_option("--seconds", options.seconds);
  app.add_flag("--spin", options.spin);
  CLI11_PARSE(app, argc, argv);
  return mode == "serve" ? serve(options) : load(options);
}
