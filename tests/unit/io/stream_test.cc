// SPDX-License-Identifier: Apache-2.0
#include "io/stream.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/units.h"
#include "io/socket_address.h"
#include "io/socket_stream.h"
#include "io/sync.h"
#include "support/world.h"

namespace bb::io {
namespace {

using test::World;

// A stream, and a peer who reads all that comes by it once told to.
struct Reader {
  World* world;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> stream;
  TaskGroup group{*world->reactor};
  std::vector<std::byte> got;

  Task<void> connect(std::string address) {
    auto listening = world->network->listen({std::move(address)});
    EXPECT_TRUE(listening.ok()) << listening.status().to_string();
    listener = std::move(*listening);
    auto connected = co_await world->network->connect({listener->local_address()},
                                                      world->reactor->now_ns() + kNsPerSecond);
    EXPECT_TRUE(connected.ok()) << connected.status().to_string();
    stream = std::move(*connected);
  }
  void begin() { group.spawn(read()); }
  Task<void> read() {
    auto accepted = co_await listener->accept();
    if (!accepted.ok()) co_return;
    std::vector<std::byte> buffer(64 * KiB);
    for (;;) {
      auto length = co_await (*accepted)->recv_some(buffer);
      if (!length.ok() || *length == 0) break;
      got.insert(got.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(*length));
    }
    co_await (*accepted)->close();
  }
  // Nothing more is sent: now it has all.
  Task<void> end(const std::vector<std::byte>& sent) {
    co_await stream->close();
    co_await group.join();
    co_await listener->close();
    EXPECT_TRUE(got == sent) << got.size() << " bytes came of " << sent.size();
  }
};

Task<void> send_many_pieces(World* world, std::string address) {
  Reader reader{.world = world};
  co_await reader.connect(std::move(address));
  reader.begin();
  std::vector<std::byte> memory(3 * MiB);
  Prng(1).fill(memory);
  std::vector<iovec> iov;  // more pieces than one sendmsg takes, some empty
  for (size_t at = 0; at < memory.size(); at += 1500) {
    iov.push_back(
        {.iov_base = memory.data() + at, .iov_len = std::min<size_t>(1500, memory.size() - at)});
    if (at % 4500 == 0) iov.push_back({.iov_base = memory.data(), .iov_len = 0});
  }
  auto sent = co_await reader.stream->send_all(iov.data(), static_cast<uint32_t>(iov.size()));
  EXPECT_TRUE(sent.ok()) << sent.status().to_string();
  if (sent.ok()) EXPECT_EQ(*sent, memory.size());
  co_await reader.end(memory);
}

Task<void> send_all_task(Stream* stream, std::vector<std::byte>* memory, Status* end) {
  auto sent = co_await stream->send_all(ConstBytes(*memory));
  *end = sent.status();
}

TEST(Stream, SendsEveryPieceInOrder) {
  World world;
  world.run(send_many_pieces(&world, "127.0.0.1:0"));
  world.run(send_many_pieces(&world, fmt::format("unix:/tmp/bb-stream-test-{}.sock", getpid())));
}

Task<Status> try_connect(World* world, std::string to, uint64_t timeout_ns) {
  auto stream = co_await world->network->connect({to}, world->reactor->now_ns() + timeout_ns);
  if (stream.ok()) co_await (*stream)->close();
  co_return stream.status();
}

// Until there is no room; the rest waits for the peer, who gets all of it in order.
Task<void> send_at_once(World* world) {
  Reader reader{.world = world};
  co_await reader.connect("127.0.0.1:0");
  EXPECT_TRUE(reader.stream->sends_at_once());
  std::vector<std::byte> memory(64 * MiB);
  Prng(1).fill(memory);
  size_t at = 0;
  for (size_t taken = 1; taken > 0 && at < memory.size(); at += taken) {
    iovec pieces[2] = {{.iov_base = memory.data() + at, .iov_len = 1000},
                       {.iov_base = memory.data() + at + 1000, .iov_len = 99'000}};
    auto sent = reader.stream->send_at_once(pieces, 2);
    EXPECT_TRUE(sent.ok()) << sent.status().to_string();
    taken = sent.ok() ? *sent : 0;
    EXPECT_LE(taken, 100'000u);
  }
  EXPECT_GT(at, 0u);
  EXPECT_LT(at, memory.size());  // nobody reads: it did not wait for that
  reader.begin();
  memory.resize(at + 1'000'000);
  auto rest = co_await reader.stream->send_all(ConstBytes(memory).subspan(at));
  EXPECT_TRUE(rest.ok()) << rest.status().to_string();
  co_await reader.end(memory);
}

TEST(Stream, SendsAtOnceWhatThereIsRoomFor) {
  World world;
  world.run(send_at_once(&world));
}

Task<void> send_to_nobody(World* world) {
  Loop& loop = *world->reactor;
  auto listener = world->network->listen({"127.0.0.1:0"});
  auto stream = co_await world->network->connect({(*listener)->local_address()},
                                                 loop.now_ns() + kNsPerSecond);
  (*stream)->abort();
  iovec piece{.iov_base = &loop, .iov_len = 8};
  auto sent = (*stream)->send_at_once(&piece, 1);
  EXPECT_EQ(sent.status().code(), Code::k_unavailable) << sent.status().to_string();
  co_await (*stream)->close();
  co_await (*listener)->close();
}

TEST(Stream, SaysAtOnceThatTheConnectionIsLost) {
  World world;
  world.run(send_to_nobody(&world));
}

struct Receive final : StreamOp {
  std::byte byte{};
  struct iovec into{.iov_base = &byte, .iov_len = 1};
  bool ended = false;

  Receive() {
    iov = &into;
    iov_count = 1;
    done = [](StreamOp* op, Result<size_t> length) {
      EXPECT_TRUE(length.ok()) << length.status().to_string();
      static_cast<Receive*>(op)->ended = true;
    };
  }
};

// Waits for a byte before it is sent, so that the engine has to watch the socket.
void receive_one(Reactor& reactor, Stream& stream, int peer) {
  Receive receive;
  stream.recv(receive);
  reactor.run_once(false);
  reactor.run_once(false);
  EXPECT_FALSE(receive.ended);
  EXPECT_EQ(::write(peer, "x", 1), 1);
  for (uint64_t until = reactor.now_ns() + 5 * kNsPerSecond;
       !receive.ended && reactor.now_ns() < until;) {
    reactor.run_once(false);
  }
  EXPECT_TRUE(receive.ended);
  if (!receive.ended) std::exit(1);  // the stream still has it
}

// A socket that moved is closed elsewhere, and its number comes back with another.
TEST(Stream, LeavesNothingBehindWhereItWas) {
  for (EngineKind kind : {EngineKind::kEpoll, EngineKind::kAuto}) {
    auto here = std::move(Reactor::create({.engine = kind})).value();
    auto there = std::move(Reactor::create({.engine = kind})).value();
    int number = -1;
    for (int turn = 0; turn < 3; ++turn) {
      int ends[2];
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
      if (turn > 0) EXPECT_EQ(ends[0], number);
      number = ends[0];
      auto stream = make_socket_stream(*here, ends[0], "a peer");
      receive_one(*here, *stream, ends[1]);
      EXPECT_TRUE(stream->move_to(*there));
      receive_one(*there, *stream, ends[1]);
      there->block_on(stream->close());
      stream.reset();
      ::close(ends[1]);
    }
  }
}

TEST(Network, SaysWhyItCannotConnect) {
  World world;
  Status refused = world.run(try_connect(&world, "127.0.0.1:1", kNsPerSecond));
  EXPECT_EQ(refused.to_string(), "127.0.0.1:1: cannot connect: Connection refused [unavailable]");
  Status unix_refused = world.run(try_connect(&world, "unix:/tmp/bb-none.sock", kNsPerSecond));
  EXPECT_EQ(unix_refused.code(), Code::k_unavailable) << unix_refused.to_string();
  EXPECT_EQ(world.run(try_connect(&world, "127.0.0.1", kNsPerSecond)).text(), "127.0.0.1: no port");
  EXPECT_EQ(world.run(try_connect(&world, "127.0.0.1:99999", kNsPerSecond)).code(),
            Code::k_invalid_argument);
  EXPECT_EQ(world.run(try_connect(&world, "unix:" + std::string(200, 'x'), 1)).code(),
            Code::k_invalid_argument);
}

Task<Status> fill_backlog_then_connect(World* world) {
  // A listener that never accepts: once its queue is full, the next connect gets no answer.
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::listen(fd, 0), 0);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  std::string to = fmt::format("127.0.0.1:{}", ntohs(address.sin_port));
  Status last;
  std::vector<std::unique_ptr<Stream>> held;
  for (int i = 0; i < 4 && last.ok(); ++i) {
    uint64_t before = world->reactor->now_ns();
    auto stream = co_await world->network->connect({to}, before + 100 * kNsPerMs);
    last = stream.status();
    if (stream.ok()) held.push_back(std::move(stream).value());
    EXPECT_LT(world->reactor->now_ns() - before, kNsPerSecond);
  }
  for (auto& stream : held) co_await stream->close();
  ::close(fd);
  co_return last;
}

TEST(Network, ConnectEndsAtItsDeadline) {
  World world;
  Status status = world.run(fill_backlog_then_connect(&world));
  EXPECT_EQ(status.code(), Code::k_timed_out) << status.to_string();
}

TEST(Network, SaysWhyItCannotListen) {
  World world;
  auto first = world.network->listen({"127.0.0.1:0"});
  ASSERT_TRUE(first.ok());
  auto second = world.network->listen({(*first)->local_address()});
  EXPECT_EQ(second.status().to_string(), (*first)->local_address() +
                                             ": cannot listen: Address already in use "
                                             "[already_exists]");
  EXPECT_EQ(world.network->listen({"203.0.113.1:0"}).code(), Code::k_invalid_argument);
  EXPECT_EQ(world.network->listen({"unix:/nonexistent/x"}).code(), Code::k_invalid_argument);
}

Task<void> accept_until_cancelled(Listener* listener, Status* end) {
  auto stream = co_await listener->accept();
  *end = stream.status();
}
Task<Status> stop_listening(World* world) {
  auto listener = world->network->listen({"127.0.0.1:0"});
  Status end;
  TaskGroup group(*world->reactor);
  group.spawn(accept_until_cancelled(listener->get(), &end));
  co_await world->reactor->sleep_for(kNsPerMs);
  (*listener)->shutdown();
  co_await group.join();
  auto after = co_await (*listener)->accept();
  EXPECT_EQ(after.code(), Code::k_cancelled);
  co_await (*listener)->close();
  co_return end;
}

TEST(Listener, ShutdownEndsAccept) {
  World world;
  EXPECT_EQ(world.run(stop_listening(&world)).code(), Code::k_cancelled);
}

Task<void> receive_end(Stream* stream, Result<size_t>* end) {
  std::byte buffer[16];
  *end = co_await stream->recv_some(buffer);
}
Task<Result<size_t>> shut_down_while_receiving(World* world) {
  auto listener = world->network->listen({"127.0.0.1:0"});
  auto stream = co_await world->network->connect({(*listener)->local_address()}, UINT64_MAX / 2);
  Result<size_t> end = size_t{99};
  TaskGroup group(*world->reactor);
  group.spawn(receive_end(stream->get(), &end));
  co_await world->reactor->sleep_for(kNsPerMs);
  (*stream)->shutdown();
  co_await group.join();
  auto sent = co_await (*stream)->send_all(as_bytes("x"));
  EXPECT_EQ(sent.code(), Code::k_unavailable);
  co_await (*stream)->close();
  co_await (*listener)->close();
  co_return end;
}

TEST(Stream, ShutdownEndsAPendingReceive) {
  World world;
  auto end = world.run(shut_down_while_receiving(&world));
  EXPECT_TRUE(!end.ok() || *end == 0);
}

// Sends more than the peer's window takes, gives up, and says how much arrives after all.
Task<void> abort_while_sending(World* world, uint64_t* arrived, uint64_t* sent) {
  Loop& loop = *world->reactor;
  auto listener = world->network->listen({"127.0.0.1:0"});
  auto here = co_await world->network->connect({(*listener)->local_address()},
                                               loop.now_ns() + kNsPerSecond);
  auto there = co_await (*listener)->accept();
  EXPECT_TRUE(here.ok() && there.ok());
  std::vector<std::byte> memory(64 * MiB);
  *sent = memory.size();
  Status end;
  TaskGroup group(loop);
  group.spawn(send_all_task(here->get(), &memory, &end));
  co_await loop.sleep_for(50 * kNsPerMs);
  (*here)->abort();
  co_await group.join();
  EXPECT_EQ(end.code(), Code::k_unavailable) << end.to_string();
  co_await (*here)->close();
  for (;;) {
    auto got = co_await (*there)->recv_some(memory);
    if (!got.ok()) EXPECT_EQ(got.code(), Code::k_unavailable) << got.status().to_string();
    if (!got.ok() || *got == 0) break;
    *arrived += *got;
  }
  co_await (*there)->close();
  co_await (*listener)->close();
}

TEST(Stream, AbortEndsASendAndDropsWhatDidNotArrive) {
  World world;
  uint64_t arrived = 0;
  uint64_t sent = 0;
  world.run(abort_while_sending(&world, &arrived, &sent));
  EXPECT_LT(arrived, sent / 2);
}

// What fits the socket's buffers, and so counts as sent, is dropped all the same: a shutdown would
// deliver it.
Task<void> end_with_full_buffers(World* world, bool abort, uint64_t* arrived, uint64_t* sent) {
  Loop& loop = *world->reactor;
  auto listener = world->network->listen({"127.0.0.1:0"});
  auto here = co_await world->network->connect({(*listener)->local_address()},
                                               loop.now_ns() + kNsPerSecond);
  auto there = co_await (*listener)->accept();
  EXPECT_TRUE(here.ok() && there.ok());
  std::vector<std::byte> memory(4 * KiB);
  Status end;
  TaskGroup group(loop);
  bool full = false;
  while (!full) {  // until a send stays
    group.spawn(send_all_task(here->get(), &memory, &end));
    uint64_t until_ns = loop.now_ns() + 200 * kNsPerMs;
    while (group.running() > 0 && loop.now_ns() < until_ns) co_await loop.sleep_for(10'000);
    full = group.running() > 0;
    if (!full) *sent += memory.size();
  }
  if (abort) (*here)->abort();
  (*here)->shutdown();
  co_await group.join();
  co_await (*here)->close();
  for (;;) {
    auto got = co_await (*there)->recv_some(memory);
    if (!got.ok() || *got == 0) break;
    *arrived += *got;
  }
  co_await (*there)->close();
  co_await (*listener)->close();
}

TEST(Stream, AbortDropsWhatAShutdownDelivers) {
  World world;
  uint64_t arrived = 0;
  uint64_t sent = 0;
  world.run(end_with_full_buffers(&world, false, &arrived, &sent));
  EXPECT_GE(arrived, sent);
  arrived = sent = 0;
  world.run(end_with_full_buffers(&world, true, &arrived, &sent));
  EXPECT_LT(arrived, sent);
}

Task<Status> unix_leftover(World* world, std::string path) {
  sockaddr_un leftover{};  // what a killed process leaves: a socket file without a listener
  leftover.sun_family = AF_UNIX;
  path.copy(leftover.sun_path, sizeof leftover.sun_path - 1);
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&leftover), sizeof leftover), 0);
  ::close(fd);
  auto first = world->network->listen({"unix:" + path});
  if (!first.ok()) co_return first.status();
  auto second = world->network->listen({"unix:" + path});
  EXPECT_EQ(second.code(), Code::k_already_exists) << second.status().to_string();
  co_await (*first)->close();
  co_return Status();
}

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1;
}

// The accepted end of a connection, which a Stream hides: whose peer is `address`.
int fd_with_peer(const std::string& address) {
  for (int fd = 0; fd < 1024; ++fd) {
    SocketAddress peer = SocketAddress::peer_of(fd);
    if (peer.length > 0 && peer.to_string() == address) return fd;
  }
  return -1;
}

Task<void> accept_and_close(Listener* listener, int* fd, std::string* peer) {
  auto stream = co_await listener->accept();
  if (!stream.ok()) co_return;
  *peer = (*stream)->peer();
  *fd = fd_with_peer(*peer);
  EXPECT_GT(option_of(*fd, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option_of(*fd, IPPROTO_TCP, TCP_KEEPIDLE), kPeerIdleSeconds);
  EXPECT_EQ(option_of(*fd, IPPROTO_TCP, TCP_KEEPINTVL), kPeerProbeSeconds);
  EXPECT_EQ(option_of(*fd, IPPROTO_TCP, TCP_USER_TIMEOUT), static_cast<int>(kPeerSilenceMs));
  co_await (*stream)->close();
}

Task<void> vanishing_peers(World* world) {
  auto listener = world->network->listen({"127.0.0.1:0"});
  int fd = -1;
  std::string peer;
  TaskGroup group(*world->reactor);
  group.spawn(accept_and_close(listener->get(), &fd, &peer));
  auto stream = co_await world->network->connect({(*listener)->local_address()}, UINT64_MAX / 2);
  co_await group.join();
  EXPECT_GE(fd, 0) << peer;
  co_await (*stream)->close();
  co_await (*listener)->close();
}

// That the kernel then does it is not waited for: it would take two minutes.
TEST(Listener, WhoeverItAcceptsIsAskedWhetherHeIsThere) {
  World world;
  world.run(vanishing_peers(&world));
}

TEST(Listener, AUnixSocketInUseIsNotStolen) {
  World world;
  std::string path = fmt::format("/tmp/bb-listen-test-{}.sock", getpid());
  Status status = world.run(unix_leftover(&world, path));
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "the socket file stays behind";
}

// Whether someone still listens on the path is asked without waiting: a listener whose queue of
// connections is full used to stop the whole loop.
TEST(Listener, AListenerTooBusyToAnswerIsAListener) {
  World world;
  std::string path = fmt::format("/tmp/bb-stream-busy-{}.sock", getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  auto* at = reinterpret_cast<const sockaddr*>(&address);
  int busy = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(busy, at, sizeof address), 0);
  ASSERT_EQ(::listen(busy, 0), 0);
  std::vector<int> queued;
  do {  // until there is no room
    queued.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  } while (::connect(queued.back(), at, sizeof address) == 0 && queued.size() < 100);
  EXPECT_EQ(errno, EAGAIN);
  alarm(20);  // it would wait without an end
  EXPECT_EQ(world.network->listen({"unix:" + path}).code(), Code::k_already_exists);
  alarm(0);
  for (int fd : queued) ::close(fd);
  ::close(busy);
  ::unlink(path.c_str());
}

}  // namespace
}  // namespace bb::io
