// SPDX-License-Identifier: Apache-2.0
// A host that costs next to nothing: its reads were encoded before, all of a round go by one send,
// and what comes back is dropped in the kernel, uncopied and unchecked but for its length. For
// measuring a target alone, where host and target share a machine. One thread; the connections take
// turns, and all have a round under way while one is waited for.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "base/cli11.h"
#include "base/uri.h"
#include "load_report.h"
#include "support/nvme_fake.h"

namespace bb::bench {
namespace {

using io::nvme::Digests;
using io::nvme::IoOpcode;
using io::nvme::test::append;
using io::nvme::test::Buffer;
using io::nvme::test::HostSeen;
using io::nvme::test::HostWire;

constexpr uint32_t kBlock = 4096;

struct Options {
  std::vector<std::string> devices;  // HOST:PORT/NQN
  uint32_t depth = 32;
  uint64_t span_bytes = 64u << 20;
  bool digests = true;
  double seconds = 1;
};

class Connection {
 public:
  Connection(const std::string& target, Digests digests) {
    size_t slash = target.find('/');
    auto at = HostPort::parse(target.substr(0, slash));
    nqn_ = target.substr(slash + 1);
    sockaddr_in to{.sin_family = AF_INET};
    if (!at.ok() || inet_pton(AF_INET, at->host.c_str(), &to.sin_addr) != 1) die("address");
    to.sin_port = htons(at->port);
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) die("connect");
    send_all(HostWire::ic_req(digests));
    wire.format.digests = digests;
    while (seen_.ic.h2c_data_max_bytes == 0) receive();
  }

  io::nvme::Cqe ask(const Buffer& bytes) {
    size_t before = seen_.responses.size();
    send_all(bytes);
    while (seen_.responses.size() == before) receive();
    return seen_.responses.back();
  }
  uint16_t login(uint16_t queue, uint16_t controller) {
    auto got = ask(
        wire.connect(queue, queue == 0 ? 31 : 127, controller, nqn_, io::nvme::test::kHostNqn, 0));
    if (got.status != io::nvme::NvmeStatus::kSuccess) die("Connect was refused");
    return static_cast<uint16_t>(got.result);
  }
  void send_all(const Buffer& bytes) const {
    if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != ssize_t(bytes.size())) die("send");
  }
  // Everything of a length that is known, to nowhere.
  void drop(size_t bytes) const {
    while (bytes > 0) {
      ssize_t got = recv(fd_, nullptr, bytes, MSG_TRUNC | MSG_WAITALL);
      if (got <= 0) die("recv");
      bytes -= static_cast<size_t>(got);
    }
  }
  // Bytes of the answer to one read, which are the same for all of them.
  size_t answer_bytes(const Buffer& one) {
    send_all(one);
    size_t before = seen_.data.size(), total = 0;
    while (seen_.data.size() < before + kBlock) total += receive();
    timeval little{.tv_usec = 20'000};  // does a response of its own follow?
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
    Buffer rest(64);
    ssize_t more = recv(fd_, rest.data(), rest.size(), 0);
    little = {};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &little, sizeof little);
    return total + (more > 0 ? static_cast<size_t>(more) : 0);
  }

  HostWire wire;

 private:
  size_t receive() {
    Buffer room(65536);
    ssize_t got = recv(fd_, room.data(), room.size(), 0);
    if (got <= 0) die("recv");
    seen_.feed(ConstBytes(room).first(static_cast<size_t>(got)));
    return static_cast<size_t>(got);
  }

  int fd_ = -1;
  std::string nqn_;
  HostSeen seen_;
};

// A device's two queues, and its rounds of reads.
struct Load {
  Connection admin;
  Connection queue;
  std::vector<Buffer> rounds;
  size_t next = 0;
  size_t answer = 0;
  uint64_t sent_ns = 0;

  Load(const std::string& target, const Options& options)
      : admin(target, digests_of(options)), queue(target, digests_of(options)) {
    uint16_t id = admin.login(0, 0xffff);
    admin.ask(admin.wire.capsule(
        HostWire::property_set_cc(io::nvme::kCcEntrySizes | io::nvme::kCcEnable)));
    io::nvme::Sqe queues = HostWire::admin(io::nvme::AdminOpcode::kSetFeatures, 7, 0);
    queues.sgl = {};
    admin.ask(admin.wire.capsule(queues));
    queue.login(1, id);
    Prng prng(1);
    for (int round = 0; round < 64; ++round) {
      Buffer all;
      for (uint32_t i = 0; i < options.depth; ++i) append(all, read_of(prng, options, i));
      rounds.push_back(std::move(all));
    }
    answer = queue.answer_bytes(read_of(prng, options, 0));
  }
  static Digests digests_of(const Options& options) {
    return {.header = options.digests, .data = options.digests};
  }
  Buffer read_of(Prng& prng, const Options& options, uint32_t id) const {
    constexpr uint32_t kSector = 512;
    uint64_t sector = prng.below(options.span_bytes / kBlock) * (kBlock / kSector);
    return queue.wire.capsule(
        HostWire::io(IoOpcode::kRead, sector, kBlock / kSector, kBlock, static_cast<uint16_t>(id)));
  }
  void start() {
    sent_ns = now_ns();
    queue.send_all(rounds[next]);
    next = (next + 1) % rounds.size();
  }
};

void run(const Options& options) {
  std::vector<std::unique_ptr<Load>> loads;
  loads.reserve(options.devices.size());
  for (const std::string& one : options.devices) {
    loads.push_back(std::make_unique<Load>(one, options));
  }
  LoadReport report(options.seconds);
  for (auto& load : loads) load->start();
  while (!report.over()) {
    for (auto& load : loads) {
      load->queue.drop(load->answer * options.depth);
      uint64_t now = now_ns();
      for (uint32_t i = 0; i < options.depth; ++i) report.add(now, now - load->sent_ns);
      load->start();
    }
  }
  report.print();
}

}  // namespace
}  // namespace bb::bench

int main(int argc, char** argv) {
  bb::bench::Options options;
  CLI::App app("Reads of a target by a host that costs next to nothing");
  app.add_option("--device", options.devices, "HOST:PORT/NQN, may be repeated")->required();
  app.add_option("--depth", options.depth)->check(CLI::Range(1, 128));
  app.add_option("--span-bytes", options.span_bytes);
  app.add_option("--digests", options.digests);
  app.add_option("--seconds", options.seconds);
  CLI11_PARSE(app, argc, argv);
  bb::bench::run(options);
}
