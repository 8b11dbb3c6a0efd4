// SPDX-License-Identifier: Apache-2.0
// What the sockets of this machine can do at best: requests of R bytes one way, answers of A bytes
// the other, batched, without any protocol. `raw_ceiling serve|load --request R --answer A ...`
// With --spin both sides ask again and again instead of sleeping until something has come. With
// --memory the server serves blocks: a request or answer as large as one has it at a random place,
// which is what misses the caches; without, all bytes come from and go to a buffer that stays hot.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/cli11.h"
#include "base/prng.h"
#include "load_report.h"

namespace {

using bb::bench::die;

struct Options {
  uint16_t port = 0;
  size_t request_bytes = 72;
  size_t answer_bytes = 4120;
  size_t depth = 32;
  double seconds = 1;
  size_t memory_bytes = 0;
  size_t block_bytes = 4096;
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

// Blocks at random places of memory that no cache holds, in huge pages as the product's own.
class Blocks {
 public:
  explicit Blocks(const Options& options)
      : bytes_(options.memory_bytes), block_bytes_(options.block_bytes) {
    if (bytes_ == 0) return;
    void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) die("mmap");
    memory_ = static_cast<char*>(memory);
    madvise(memory_, bytes_, MADV_HUGEPAGE);
    std::memset(memory_, 1, bytes_);
  }
  bool carried_by(size_t message_bytes) const {
    return memory_ != nullptr && message_bytes >= block_bytes_;
  }
  char* any() { return memory_ + prng_.below(bytes_ / block_bytes_) * block_bytes_; }
  size_t block_bytes() const { return block_bytes_; }

 private:
  size_t bytes_;
  size_t block_bytes_;
  char* memory_ = nullptr;
  bb::Prng prng_{1};
};

// What `count` answers consist of: out of one buffer, or each with its block.
void gather(std::vector<iovec>& iov, size_t count, const Options& options, Blocks& blocks,
            std::vector<char>& out) {
  iov.clear();
  if (!blocks.carried_by(options.answer_bytes)) {
    for (size_t left = count * options.answer_bytes; left > 0;) {
      size_t piece = std::min(left, out.size());
      iov.push_back({.iov_base = out.data(), .iov_len = piece});
      left -= piece;
    }
    return;
  }
  size_t around = options.answer_bytes - blocks.block_bytes();
  for (; count > 0; --count) {
    iov.push_back({.iov_base = out.data(), .iov_len = around});
    iov.push_back({.iov_base = blocks.any(), .iov_len = blocks.block_bytes()});
  }
}

// The blocks of `count` requests go to their places: which of the bytes that came does not matter.
void keep(const std::vector<char>& in, size_t count, Blocks& blocks) {
  size_t at = 0;
  for (; count > 0; --count) {
    if (at + blocks.block_bytes() > in.size()) at = 0;
    std::memcpy(blocks.any(), in.data() + at, blocks.block_bytes());
    at += blocks.block_bytes();
  }
}

bool send_all(int fd, std::vector<iovec>& iov) {
  for (size_t at = 0; at < iov.size();) {
    msghdr message{};
    message.msg_iov = iov.data() + at;
    message.msg_iovlen = std::min<size_t>(iov.size() - at, 1024);
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    auto left = static_cast<size_t>(sent);
    for (; at < iov.size() && left >= iov[at].iov_len; ++at) left -= iov[at].iov_len;
    if (left == 0) continue;
    iov[at].iov_base = static_cast<char*>(iov[at].iov_base) + left;
    iov[at].iov_len -= left;
  }
  return true;
}

// One client after another; answers as many as have arrived with one send.
int serve(const Options& options) {
  Blocks blocks(options);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at = local(0);
  socklen_t length = sizeof at;
  if (bind(listener, reinterpret_cast<sockaddr*>(&at), length) != 0 || listen(listener, 8) != 0)
    die("listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length);
  std::printf("ready raw 127.0.0.1:%u\n", ntohs(at.sin_port));
  std::fflush(stdout);
  std::vector<char> in(kBufferBytes);
  std::vector<char> out(kBufferBytes);
  std::vector<iovec> iov;
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    set_no_delay(fd);
    size_t pending = 0;
    for (;;) {
      ssize_t got = receive(fd, in, options.spin);
      if (got <= 0) break;
      pending += static_cast<size_t>(got);
      size_t count = pending / options.request_bytes;
      pending %= options.request_bytes;
      if (blocks.carried_by(options.request_bytes)) keep(in, count, blocks);
      gather(iov, count, options, blocks, out);
      if (!send_all(fd, iov)) break;  // the client has left
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
  app.add_option("--memory", options.memory_bytes, "bytes");
  app.add_option("--block", options.block_bytes, "bytes");
  app.add_flag("--spin", options.spin);
  CLI11_PARSE(app, argc, argv);
  return mode == "serve" ? serve(options) : load(options);
}
