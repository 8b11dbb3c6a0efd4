// SPDX-License-Identifier: Apache-2.0
// Both engines, operation by operation, and what networks and hosts do to them.
#include "io/engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/units.h"
#include "io/engine_wait.h"
#include "io/offload.h"
#include "io/socket_stream.h"
#include "io/sync.h"
#include "io/tcp.h"

namespace bb::io {
namespace {

TEST(EngineOpQueue, KeepsOrderAndGivesUpAnyOne) {
  EngineOp ops[4];
  EngineOpQueue queue;
  EXPECT_EQ(queue.pop_front(), nullptr);
  for (EngineOp& op : ops) queue.push_back(op);
  EXPECT_TRUE(queue.remove(ops[3]));  // the last
  EXPECT_TRUE(queue.remove(ops[0]));  // the first
  EXPECT_FALSE(queue.remove(ops[0]));
  queue.push_back(ops[0]);
  EngineOpQueue other;
  other.push_back(ops[3]);
  other.append(queue);
  EXPECT_TRUE(queue.empty());
  for (EngineOp* expected : {&ops[3], &ops[1], &ops[2], &ops[0]}) {
    EXPECT_EQ(other.pop_front(), expected);
  }
  EXPECT_TRUE(other.empty());
  other.push_back(ops[1]);
  EXPECT_TRUE(other.remove(ops[1]));  // the only one
  EXPECT_TRUE(other.empty());
}

TEST(EngineKind, HasANameEach) {
  for (EngineKind kind : {EngineKind::kAuto, EngineKind::kUring, EngineKind::kEpoll}) {
    EXPECT_EQ(parse_engine(engine_name(kind)).value(), kind);
  }
  EXPECT_EQ(parse_engine("kqueue").status().to_string(),
            "engine \"kqueue\" is none of auto, io_uring, epoll [invalid_argument]");
}

class EngineTest : public testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    auto made = Reactor::create({.engine = GetParam()});
    if (made.code() == Code::k_not_supported) GTEST_SKIP() << made.status().to_string();
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    reactor = std::move(made).value();
    network = make_tcp_network(*reactor, &offload);
  }
  void TearDown() override {
    network.reset();
    reactor.reset();
  }

  std::unique_ptr<Reactor> reactor;
  Offload offload;
  std::unique_ptr<Network> network;
};

INSTANTIATE_TEST_SUITE_P(Both, EngineTest, testing::Values(EngineKind::kUring, EngineKind::kEpoll),
                         [](const auto& info) { return std::string(engine_name(info.param)); });

// One operation and how often it completed.
struct Once : EngineOp {
  int count = 0;
  int32_t got = 0;
  Once() {
    complete = [](EngineOp* op, int32_t result) {
      auto* self = static_cast<Once*>(op);
      ++self->count;
      self->got = result;
    };
  }
};

void turn_until(Reactor& reactor, const Once& op) {
  while (op.count == 0) reactor.run_once(true);
}

struct SocketPair {
  int here = -1;
  int there = -1;
  explicit SocketPair(int buffer_bytes = 0) {
    int fds[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    here = fds[0];
    there = fds[1];
    for (int fd : fds) {
      if (buffer_bytes == 0) continue;
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    }
  }
};

// Short waits, as many as it takes for the loop to find that looking could pay.
void wait_shortly(Reactor& reactor, int times) {
  for (int i = 0; i < times && reactor.spins() == 0; ++i) {
    struct Alarm : Timer {
      bool fired = false;
    } alarm;
    alarm.deadline_ns = reactor.now_ns() + 10'000;
    alarm.fire = [](Timer* self) { static_cast<Alarm*>(self)->fired = true; };
    reactor.arm(alarm, alarm.deadline_ns);
    while (!alarm.fired) reactor.run_once(true);
  }
}

TEST_P(EngineTest, LooksBeforeItSleepsUnlessToldNotTo) {
  wait_shortly(*reactor, 100'000);
  EXPECT_GT(reactor->spins(), 0u);
  auto asleep = std::move(Reactor::create({.engine = GetParam(), .spin = false})).value();
  wait_shortly(*asleep, 200);
  EXPECT_EQ(asleep->spins(), 0u);
}

TEST_P(EngineTest, ReceivesWhatIsThereAndWaitsForTheRest) {
  SocketPair pair;
  std::byte memory[16];
  iovec into{.iov_base = memory, .iov_len = sizeof memory};
  ASSERT_EQ(::write(pair.there, "abc", 3), 3);
  Once first;
  reactor->recv(first, pair.here, into);
  EXPECT_EQ(first.count, 0) << "completed within submit";
  turn_until(*reactor, first);
  EXPECT_EQ(first.got, 3);
  Once second;
  reactor->recv(second, pair.here, into);
  for (int i = 0; i < 5; ++i) reactor->run_once(false);
  EXPECT_EQ(second.count, 0);
  ASSERT_EQ(::write(pair.there, "de", 2), 2);
  turn_until(*reactor, second);
  EXPECT_EQ(second.got, 2);
  Once last;
  reactor->recv(last, pair.here, into);
  reactor->run_once(false);
  ::close(pair.there);
  turn_until(*reactor, last);
  EXPECT_EQ(last.got, 0);
  reactor->close(pair.here);
}

// Data and the end of it together are one edge: the end must not be waited for.
TEST_P(EngineTest, TheEndThatCameWithTheDataIsSeen) {
  SocketPair pair;
  std::byte memory[16];
  iovec into{.iov_base = memory, .iov_len = sizeof memory};
  Once first;
  reactor->recv(first, pair.here, into);
  reactor->run_once(false);
  ASSERT_EQ(::write(pair.there, "abc", 3), 3);
  ::close(pair.there);
  turn_until(*reactor, first);
  EXPECT_EQ(first.got, 3);
  Once second;
  reactor->recv(second, pair.here, into);
  turn_until(*reactor, second);
  EXPECT_EQ(second.got, 0);
  reactor->close(pair.here);
}

TEST_P(EngineTest, ReadableLeavesTheBytesThere) {
  SocketPair pair;
  Once op;
  reactor->readable(op, pair.here);
  for (int i = 0; i < 3; ++i) reactor->run_once(false);
  EXPECT_EQ(op.count, 0);
  ASSERT_EQ(::write(pair.there, "x", 1), 1);
  turn_until(*reactor, op);
  EXPECT_GT(op.got, 0);
  char byte = 0;
  EXPECT_EQ(::read(pair.here, &byte, 1), 1);
  ::close(pair.there);
  reactor->close(pair.here);
}

// A descriptor's number is used again at once: nothing of the old one may be left.
TEST_P(EngineTest, ADescriptorsNumberIsUsedAgain) {
  for (int round = 0; round < 200; ++round) {
    SocketPair pair;
    std::byte memory[8];
    iovec into{.iov_base = memory, .iov_len = sizeof memory};
    Once op;
    reactor->recv(op, pair.here, into);
    reactor->run_once(false);
    if (round % 2 == 0) {
      ASSERT_EQ(::write(pair.there, "x", 1), 1);
    } else {
      reactor->cancel(op);
    }
    turn_until(*reactor, op);
    EXPECT_EQ(op.got, round % 2 == 0 ? 1 : -ECANCELED);
    reactor->close(pair.here);
    reactor->close(pair.there);
  }
}

TEST_P(EngineTest, CancelsBeforeWhileAndAfter) {
  SocketPair pair;
  std::byte memory[8];
  iovec into{.iov_base = memory, .iov_len = sizeof memory};
  Once before;
  reactor->recv(before, pair.here, into);
  reactor->cancel(before);
  turn_until(*reactor, before);
  EXPECT_EQ(before.got, -ECANCELED);
  Once during;
  reactor->recv(during, pair.here, into);
  reactor->run_once(false);
  reactor->cancel(during);
  EXPECT_EQ(during.count, 0) << "completed within cancel";
  turn_until(*reactor, during);
  EXPECT_EQ(during.got, -ECANCELED);
  ASSERT_EQ(::write(pair.there, "x", 1), 1);
  Once after;
  reactor->recv(after, pair.here, into);
  turn_until(*reactor, after);
  reactor->cancel(after);  // too late, and harmless
  for (int i = 0; i < 5; ++i) reactor->run_once(false);
  for (const Once* op : {&before, &during, &after}) EXPECT_EQ(op->count, 1);
  EXPECT_EQ(after.got, 1);
  ::close(pair.there);
  reactor->close(pair.here);
}

// Whoever wins, each completes once, and a byte that was received is not lost.
TEST_P(EngineTest, CancelRacesWithData) {
  SocketPair pair;
  constexpr int kRounds = 2000;
  std::thread peer([&] {
    for (int i = 0; i < kRounds; ++i) EXPECT_EQ(::write(pair.there, "x", 1), 1);
  });
  int received = 0;
  int cancelled = 0;
  std::byte byte{};
  iovec into{.iov_base = &byte, .iov_len = 1};
  while (received < kRounds) {
    Once op;
    reactor->recv(op, pair.here, into);
    reactor->run_once(false);
    if (op.count == 0) reactor->cancel(op);
    turn_until(*reactor, op);
    reactor->run_once(false);
    ASSERT_EQ(op.count, 1);
    (op.got == 1 ? received : cancelled) += 1;
    ASSERT_TRUE(op.got == 1 || op.got == -ECANCELED) << op.got;
  }
  peer.join();
  ::close(pair.there);
  reactor->close(pair.here);
}

// Streams under what networks do.

Task<void> send_bytes(Stream* stream, const std::vector<std::byte>* memory, Status* end) {
  size_t half = memory->size() / 3 + 1;
  iovec iov[2] = {{.iov_base = const_cast<std::byte*>(memory->data()), .iov_len = half},
                  {.iov_base = const_cast<std::byte*>(memory->data()) + half,
                   .iov_len = memory->size() - half}};
  auto sent = co_await stream->send_all(iov, 2);
  *end = sent.status();
}

Task<void> receive_bytes(Loop* loop, Stream* stream, std::vector<std::byte>* into, size_t step) {
  size_t at = 0;
  while (at < into->size()) {
    Bytes rest = Bytes(*into).subspan(at, std::min(step, into->size() - at));
    auto got = co_await stream->recv_some(rest);
    EXPECT_TRUE(got.ok()) << got.status().to_string();
    if (!got.ok() || *got == 0) break;
    at += *got;
    if (at % 7 == 0) co_await loop->yield();
  }
  EXPECT_EQ(at, into->size());
}

// Small buffers and a slow reader: every send is short, nearly every attempt says EAGAIN, on many
// streams at once.
Task<void> storm(Reactor* reactor, size_t streams, size_t bytes, size_t step) {
  struct Way {
    std::unique_ptr<Stream> from;
    std::unique_ptr<Stream> to;
    std::vector<std::byte> sent;
    std::vector<std::byte> received;
    Status end;
  };
  std::vector<Way> ways(streams);
  TaskGroup group(*reactor);
  for (Way& way : ways) {
    SocketPair pair(4096);
    way.from = make_socket_stream(*reactor, pair.here, "here");
    way.to = make_socket_stream(*reactor, pair.there, "there");
    way.sent.resize(bytes);
    way.received.resize(bytes);
    Prng(bytes).fill(way.sent);
    group.spawn(send_bytes(way.from.get(), &way.sent, &way.end));
    group.spawn(receive_bytes(reactor, way.to.get(), &way.received, step));
  }
  co_await group.join();
  for (Way& way : ways) {
    EXPECT_TRUE(way.end.ok()) << way.end.to_string();
    EXPECT_TRUE(way.sent == way.received);
    co_await way.from->close();
    co_await way.to->close();
  }
}

TEST_P(EngineTest, ShortSendsAndReceivesLoseNothing) {
  reactor->block_on(storm(reactor.get(), 40, 200'001, 3000));
  reactor->block_on(storm(reactor.get(), 2, 20'001, 1));
}

// Signals without SA_RESTART end system calls early.
TEST_P(EngineTest, SignalsInterruptNothing) {
  struct sigaction ignore{};
  struct sigaction old{};
  ignore.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &ignore, &old), 0);
  std::atomic<bool> stop{false};
  pthread_t loop_thread = pthread_self();
  std::thread nuisance([&] {
    while (!stop.load()) {
      pthread_kill(loop_thread, SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  reactor->block_on(storm(reactor.get(), 8, 1'000'001, 5000));
  stop.store(true);
  nuisance.join();
  sigaction(SIGUSR1, &old, nullptr);
}

Task<void> reset_while_waiting(Reactor* reactor, Network* network, bool sends) {
  auto listener = network->listen({"127.0.0.1:0"});
  auto here =
      co_await network->connect({(*listener)->local_address()}, reactor->now_ns() + kNsPerSecond);
  auto there = co_await (*listener)->accept();
  EXPECT_TRUE(here.ok() && there.ok());
  std::vector<std::byte> memory(sends ? 64 * MiB : 16);
  Status end;
  TaskGroup group(*reactor);
  if (sends) {
    group.spawn(send_bytes(here->get(), &memory, &end));
  } else {
    struct Receive {
      static Task<void> run(Stream* stream, std::vector<std::byte>* into, Status* status) {
        auto got = co_await stream->recv_some(*into);
        *status = got.status();
      }
    };
    group.spawn(Receive::run(here->get(), &memory, &end));
  }
  co_await reactor->sleep_for(5 * kNsPerMs);
  (*there)->abort();  // a reset, not an end
  co_await group.join();
  EXPECT_EQ(end.code(), Code::k_unavailable) << end.to_string();
  co_await (*here)->close();
  co_await (*there)->close();
  co_await (*listener)->close();
}

TEST_P(EngineTest, APeersResetEndsWhatWaits) {
  reactor->block_on(reset_while_waiting(reactor.get(), network.get(), false));
  reactor->block_on(reset_while_waiting(reactor.get(), network.get(), true));
}

Task<void> close_with_both_pending(Reactor* reactor) {
  SocketPair pair(4096);
  auto stream = make_socket_stream(*reactor, pair.here, "here");
  std::vector<std::byte> memory(MiB);
  std::vector<std::byte> into(16);
  Status sent;
  TaskGroup group(*reactor);
  group.spawn(send_bytes(stream.get(), &memory, &sent));
  struct Receive {
    static Task<void> run(Stream* from, std::vector<std::byte>* buffer) {
      auto got = co_await from->recv_some(*buffer);
      EXPECT_TRUE(!got.ok() || *got == 0);
    }
  };
  group.spawn(Receive::run(stream.get(), &into));
  co_await reactor->sleep_for(kNsPerMs);
  co_await stream->close();  // ends both, waits for both
  EXPECT_EQ(group.running(), 0u);
  co_await group.join();
  EXPECT_EQ(sent.code(), Code::k_unavailable);
  stream.reset();
  ::close(pair.there);
}

TEST_P(EngineTest, CloseEndsWhatIsPending) {
  for (int i = 0; i < 20; ++i) reactor->block_on(close_with_both_pending(reactor.get()));
}

Task<void> accept_without_descriptors(Reactor* reactor, Network* network) {
  auto listener = network->listen({"127.0.0.1:0"});
  uint64_t deadline_ns = reactor->now_ns() + 5 * kNsPerSecond;
  auto first = co_await network->connect({(*listener)->local_address()}, deadline_ns);
  EXPECT_TRUE(first.ok());
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit tight = before;
  int next = ::dup(0);
  ::close(next);
  tight.rlim_cur = static_cast<rlim_t>(next);
  setrlimit(RLIMIT_NOFILE, &tight);
  auto refused = co_await (*listener)->accept();
  auto no_socket = co_await network->connect({(*listener)->local_address()}, deadline_ns);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(refused.code(), Code::k_no_space) << refused.status().to_string();
  EXPECT_EQ(no_socket.code(), Code::k_no_space) << no_socket.status().to_string();
  auto accepted = co_await (*listener)->accept();  // it has waited in the queue
  EXPECT_TRUE(accepted.ok()) << accepted.status().to_string();
  if (accepted.ok()) co_await (*accepted)->close();
  co_await (*first)->close();
  co_await (*listener)->close();
}

TEST_P(EngineTest, RunningOutOfDescriptorsIsSaidAndOver) {
  reactor->block_on(accept_without_descriptors(reactor.get(), network.get()));
}

Task<void> connect_to_a_full_unix_listener(Reactor* reactor, Network* network, std::string path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  auto* at = reinterpret_cast<const sockaddr*>(&address);
  int busy = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::bind(busy, at, sizeof address), 0);
  EXPECT_EQ(::listen(busy, 0), 0);
  std::vector<int> queued;
  do {
    queued.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  } while (::connect(queued.back(), at, sizeof address) == 0 && queued.size() < 100);
  auto late = co_await network->connect({"unix:" + path}, reactor->now_ns() + 20 * kNsPerMs);
  EXPECT_EQ(late.code(), Code::k_timed_out) << late.status().to_string();
  for (int fd : queued) ::close(fd);
  ::close(busy);
  ::unlink(path.c_str());
}

TEST_P(EngineTest, AFullUnixListenerIsWaitedFor) {
  std::string path = fmt::format("/tmp/bb-engine-test-{}.sock", getpid());
  reactor->block_on(connect_to_a_full_unix_listener(reactor.get(), network.get(), path));
}

// Files.

struct FileWait final : EngineWait {
  using Start = void (*)(FileWait& self);
  int file;
  uint64_t offset;
  iovec iov;
  Start begin;
  FileWait(Reactor& r, int f, Bytes memory, uint64_t at, Start start_it)
      : EngineWait(r),
        file(f),
        offset(at),
        iov{.iov_base = memory.data(), .iov_len = memory.size()},
        begin(start_it) {}
  void start() override { begin(*this); }
};

Task<void> write_and_read_back(Reactor* reactor, int fd, size_t index) {
  std::vector<std::byte> written(4096);
  Prng(index + 1).fill(written);
  FileWait write(*reactor, fd, Bytes(written), index * 4096, [](FileWait& w) {
    w.reactor.writev(w, w.file, &w.iov, 1, w.offset, w.offset % 8192 == 0 ? RWF_DSYNC : 0);
  });
  EXPECT_EQ(co_await write, 4096);
  FileWait flush(*reactor, fd, Bytes(), 0, [](FileWait& w) { w.reactor.fdatasync(w, w.file); });
  EXPECT_EQ(co_await flush, 0);
  std::vector<std::byte> read(8192);
  FileWait readv(*reactor, fd, Bytes(read).first(4096), index * 4096,
                 [](FileWait& w) { w.reactor.readv(w, w.file, &w.iov, 1, w.offset); });
  EXPECT_EQ(co_await readv, 4096);
  EXPECT_TRUE(std::equal(written.begin(), written.end(), read.begin()));
}

Task<void> many_on_a_file(Reactor* reactor, int fd, size_t count) {
  TaskGroup group(*reactor);
  for (size_t i = 0; i < count; ++i) group.spawn(write_and_read_back(reactor, fd, i));
  co_await group.join();
  std::vector<std::byte> memory(4096);
  FileWait beyond(*reactor, fd, Bytes(memory), count * 4096 - 100,
                  [](FileWait& w) { w.reactor.readv(w, w.file, &w.iov, 1, w.offset); });
  EXPECT_EQ(co_await beyond, 100) << "a short read at the end of the file";
  FileWait punch(*reactor, fd, Bytes(memory), 0, [](FileWait& w) {
    w.reactor.fallocate(w, w.file, 0x03 /* punch a hole, keep the size */, 0, 4096);
  });
  int32_t punched = co_await punch;
  EXPECT_TRUE(punched == 0 || punched == -EOPNOTSUPP) << punched;
  FileWait wrong(*reactor, fd, Bytes(memory), 0,
                 [](FileWait& w) { w.reactor.readv(w, 900, &w.iov, 1, w.offset); });
  EXPECT_EQ(co_await wrong, -EBADF);
}

TEST_P(EngineTest, ManyOperationsOnAFile) {
  std::string path = testing::TempDir() + fmt::format("bb-engine-{}.img", getpid());
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  ::unlink(path.c_str());
  reactor->block_on(many_on_a_file(reactor.get(), fd, 300));
  reactor->close(fd);
}

// The loop ends while operations on files are with the engine, and so does a test that leaks none.
TEST_P(EngineTest, EndsWithOperationsOnFilesUnderWay) {
  std::string path = testing::TempDir() + fmt::format("bb-engine-{}.img", getpid());
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  ::unlink(path.c_str());
  std::vector<std::byte> memory(MiB);
  iovec iov{.iov_base = memory.data(), .iov_len = memory.size()};
  std::vector<Once> ops(64);
  for (size_t i = 0; i < ops.size(); ++i) {
    reactor->writev(ops[i], fd, &iov, 1, i * MiB, RWF_DSYNC);
  }
  reactor->run_once(false);
  for (Once& op : ops) reactor->cancel(op);
  for (Once& op : ops) turn_until(*reactor, op);
  for (Once& op : ops) EXPECT_TRUE(op.got == -ECANCELED || op.got == MiB || op.got == -EINTR);
  std::vector<Once> more(64);
  for (size_t i = 0; i < more.size(); ++i) reactor->writev(more[i], fd, &iov, 1, i * MiB, 0);
  reactor->run_once(false);
  network.reset();
  reactor.reset();  // waits for what has begun; memory and operations outlive it
  ::close(fd);
}

}  // namespace
}  // namespace bb::io
