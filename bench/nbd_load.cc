// SPDX-License-Identifier: Apache-2.0
// The same NBD client for every server we compare: plain sockets, batched, random 4 KiB blocks.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "base/cli11.h"
#include "base/prng.h"
#include "io/nbd/wire.h"
#include "load_report.h"

namespace {

using namespace bb::io::nbd;
using bb::bench::die;

constexpr uint32_t kBlock = 4096;

struct Options {
  uint16_t port = 0;
  std::string name;
  std::string op = "read";
  size_t depth = 32;
  double seconds = 1;
};

void send_all(int fd, const std::byte* from, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
    if (sent <= 0) die("send");
    from += sent;
    length -= static_cast<size_t>(sent);
  }
}

void recv_all(int fd, std::byte* to, size_t length) {
  if (recv(fd, to, length, MSG_WAITALL) != static_cast<ssize_t>(length)) die("recv");
}

struct Connection {
  int fd = -1;
  uint64_t size_bytes = 0;
};

// By NBD_OPT_EXPORT_NAME and without structured replies: all servers speak that.
Connection connect_to(const Options& options) {
  Connection made;
  made.fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(options.port);
  if (connect(made.fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) die("connect");
  int one = 1;
  setsockopt(made.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  std::byte greeting[kGreetingBytes];
  recv_all(made.fd, greeting, sizeof greeting);
  std::vector<std::byte> out;
  Writer(out)
      .be(uint32_t{3})
      .be(kOptionMagic)
      .be(static_cast<uint32_t>(Option::kExportName))
      .be(static_cast<uint32_t>(options.name.size()))
      .text(options.name);
  send_all(made.fd, out.data(), out.size());
  std::byte answer[10];
  recv_all(made.fd, answer, sizeof answer);
  made.size_bytes = bb::load_be<uint64_t>(answer);
  return made;
}

int run(const Options& options) {
  Connection to = connect_to(options);
  bool writes = options.op == "write";
  size_t request_bytes = kRequestBytes + (writes ? kBlock : 0);
  size_t reply_bytes = kSimpleReplyBytes + (writes ? 0 : kBlock);
  bb::Prng prng(1);
  std::vector<std::byte> out(request_bytes * options.depth);
  prng.fill(out);
  std::vector<std::byte> in(1 << 20);
  std::vector<uint64_t> sent_ns(options.depth);
  std::vector<uint64_t> free(options.depth);
  for (size_t i = 0; i < options.depth; ++i) free[i] = i;
  bb::bench::LoadReport report(options.seconds);
  size_t begin = 0;
  size_t end = 0;
  size_t in_flight = 0;
  // Ends in order, with nothing in flight and a goodbye: some servers do not survive less.
  while (!report.over() || in_flight > 0) {
    uint64_t now = bb::bench::now_ns();
    size_t count = 0;
    if (report.over()) free.clear();
    for (uint64_t cookie : free) {
      sent_ns[cookie] = now;
      encode_request({.command = writes ? Command::kWrite : Command::kRead,
                      .cookie = cookie,
                      .offset_bytes = prng.below(to.size_bytes / kBlock) * kBlock,
                      .length_bytes = kBlock},
                     out.data() + request_bytes * count++);
    }
    in_flight += count;
    free.clear();
    send_all(to.fd, out.data(), request_bytes * count);
    std::memmove(in.data(), in.data() + begin, end - begin);
    end -= begin;
    begin = 0;
    ssize_t got = recv(to.fd, in.data() + end, in.size() - end, 0);
    if (got <= 0) die("recv");
    end += static_cast<size_t>(got);
    now = bb::bench::now_ns();
    for (; end - begin >= reply_bytes; begin += reply_bytes) {
      const std::byte* reply = in.data() + begin;
      uint64_t cookie = bb::load_be<uint64_t>(reply + 8);
      if (bb::load_be<uint32_t>(reply) != kSimpleReplyMagic ||
          bb::load_be<uint32_t>(reply + 4) != 0 || cookie >= options.depth) {
        std::fprintf(stderr, "nbd_load: a bad reply\n");
        return 1;
      }
      report.add(now, now - sent_ns[cookie]);
      --in_flight;
      free.push_back(cookie);
    }
  }
  encode_request({.command = Command::kDisconnect}, out.data());
  send_all(to.fd, out.data(), kRequestBytes);
  report.print();
  close(to.fd);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Random 4 KiB blocks over NBD", "nbd_load");
  app.add_option("--port", options.port)->required();
  app.add_option("--name", options.name, "of the export; empty for the default one");
  app.add_option("--op", options.op, "read or write");
  app.add_option("--depth", options.depth);
  app.add_option("--seconds", options.seconds);
  CLI11_PARSE(app, argc, argv);
  return run(options);
}
