// SPDX-License-Identifier: Apache-2.0
// What io_uring's ways to receive and to send cost on this machine's sockets: one end asks, the
// other answers, both spin on their ring. `ring_kinds --receive plain|single|multishot
// --send plain|single|zc --request R --answer A`: one line of JSON. Each end is pinned to a core.
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "base/cli11.h"
#include "load_report.h"

namespace {

using bb::bench::die;

enum class Receive { kPlain, kSingle, kMultishot };
enum class Send { kPlain, kSingle, kZeroCopy };

struct Options {
  std::string receive = "single";
  std::string send = "single";
  size_t request_bytes = 76;
  size_t answer_bytes = 4128;
  double seconds = 1;
};

constexpr unsigned kBuffers = 8;
constexpr size_t kBufferBytes = 256 * 1024;

// One end of a connection.
class End {
 public:
  End(int fd, Receive receive, Send send) : fd_(fd), receive_(receive), send_(send) {
    if (receive == Receive::kPlain && send == Send::kPlain) return;
    io_uring_params params{};
    params.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    if (io_uring_queue_init_params(64, &ring_, &params) != 0) die("io_uring");
    if (receive == Receive::kMultishot) provide();
  }

  // Sends all of it, then waits for `want` bytes.
  void turn(size_t send_bytes, size_t want) {
    if (send_bytes > 0) submit_send(send_bytes);
    while (received_ < want) received_ += receive_some();
    received_ -= want;
    // Zero-copy memory is free only when its notification has come.
    while (unsent_ > 0 || notifications_ > 0) received_ += reap();
  }

 private:
  bool uses_ring() const { return receive_ != Receive::kPlain || send_ != Send::kPlain; }

  void provide() {
    size_t bytes = kBuffers * sizeof(io_uring_buf);
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) die("mmap");
    buffers_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_reg reg{};
    reg.ring_addr = reinterpret_cast<uint64_t>(memory);
    reg.ring_entries = kBuffers;
    if (io_uring_register_buf_ring(&ring_, &reg, 0) != 0) die("provided buffers");
    in_.resize(kBuffers * kBufferBytes);
    for (unsigned i = 0; i < kBuffers; ++i) give(static_cast<uint16_t>(i));
  }
  void give(uint16_t id) {
    io_uring_buf_ring_add(buffers_, in_.data() + id * kBufferBytes, kBufferBytes, id,
                          io_uring_buf_ring_mask(kBuffers), 0);
    io_uring_buf_ring_advance(buffers_, 1);
  }

  void submit_send(size_t bytes) {
    out_.resize(std::max(out_.size(), bytes));
    if (send_ == Send::kPlain) {
      for (size_t at = 0; at < bytes;) {
        ssize_t sent = ::send(fd_, out_.data() + at, bytes - at, MSG_NOSIGNAL);
        if (sent <= 0) die("send");
        at += static_cast<size_t>(sent);
      }
      return;
    }
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (send_ == Send::kSingle) {
      io_uring_prep_send(sqe, fd_, out_.data(), bytes, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
      io_uring_prep_send_zc(sqe, fd_, out_.data(), bytes, MSG_NOSIGNAL | MSG_WAITALL, 0);
    }
    sqe->user_data = kSent;
    ++unsent_;
  }

  size_t receive_some() {
    if (receive_ == Receive::kPlain) {
      if (uses_ring()) reap();
      in_.resize(kBufferBytes);
      ssize_t got = recv(fd_, in_.data(), in_.size(), MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN)) std::exit(0);
      return got < 0 ? 0 : static_cast<size_t>(got);
    }
    if (!armed_) {
      armed_ = true;
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (receive_ == Receive::kSingle) {
        in_.resize(kBufferBytes);
        io_uring_prep_recv(sqe, fd_, in_.data(), in_.size(), 0);
      } else {
        io_uring_prep_recv_multishot(sqe, fd_, nullptr, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
      }
      sqe->user_data = kReceived;
    }
    return reap();
  }

  size_t reap() {
    if (io_uring_sq_ready(&ring_) > 0) {
      io_uring_submit_and_get_events(&ring_);
    } else if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0) {
      io_uring_get_events(&ring_);
    }
    size_t got = 0;
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
      if (cqe->user_data == kReceived) {
        if (cqe->res == -ENOBUFS) cqe->res = 0;
        if (cqe->res < 0) die(std::strerror(-cqe->res));
        got += static_cast<size_t>(cqe->res);
        if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
          give(static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
        }
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) armed_ = false;
      } else if ((cqe->flags & IORING_CQE_F_NOTIF) != 0) {
        --notifications_;
      } else {
        --unsent_;
        if ((cqe->flags & IORING_CQE_F_MORE) != 0) ++notifications_;
      }
      io_uring_cqe_seen(&ring_, cqe);
    }
    return got;
  }

  static constexpr uint64_t kSent = 1;
  static constexpr uint64_t kReceived = 2;
  int fd_;
  Receive receive_;
  Send send_;
  io_uring ring_{};
  io_uring_buf_ring* buffers_ = nullptr;
  bool armed_ = false;
  size_t received_ = 0;
  int unsent_ = 0;
  int notifications_ = 0;
  std::vector<char> in_;
  std::vector<char> out_;
};

void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  sched_setaffinity(0, sizeof set, &set);
}

void connect_pair(int* client, int* server) {
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  auto* address = reinterpret_cast<sockaddr*>(&at);
  if (bind(listener, address, length) != 0 || listen(listener, 1) != 0) die("listen");
  getsockname(listener, address, &length);
  *client = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(*client, address, length) != 0) die("connect");
  *server = accept(listener, nullptr, nullptr);
  int one = 1;
  for (int fd : {*client, *server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

Receive receive_of(const std::string& text) {
  return text == "plain"    ? Receive::kPlain
         : text == "single" ? Receive::kSingle
                            : Receive::kMultishot;
}
Send send_of(const std::string& text) {
  return text == "plain" ? Send::kPlain : text == "single" ? Send::kSingle : Send::kZeroCopy;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Ways of a ring with sockets", "ring_kinds");
  app.add_option("--receive", options.receive)
      ->check(CLI::IsMember({"plain", "single", "multishot"}));
  app.add_option("--send", options.send)->check(CLI::IsMember({"plain", "single", "zc"}));
  app.add_option("--request", options.request_bytes);
  app.add_option("--answer", options.answer_bytes);
  app.add_option("--seconds", options.seconds);
  CLI11_PARSE(app, argc, argv);
  int client = -1;
  int server = -1;
  connect_pair(&client, &server);
  std::thread([&] {
    pin(0);
    End end(server, receive_of(options.receive), send_of(options.send));
    end.turn(0, options.request_bytes);
    for (;;) end.turn(options.answer_bytes, options.request_bytes);
  }).detach();
  pin(1);
  End end(client, receive_of(options.receive), send_of(options.send));
  bb::bench::LoadReport report(options.seconds);
  while (!report.over()) {
    uint64_t before = bb::bench::now_ns();
    end.turn(options.request_bytes, options.answer_bytes);
    uint64_t now = bb::bench::now_ns();
    report.add(now, now - before);
  }
  report.print();
  std::fflush(stdout);
  _exit(0);
}
