// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_net.h"

#include <gtest/gtest.h>

namespace bb::sim {
namespace {

using StreamPtr = std::unique_ptr<io::Stream>;

constexpr uint64_t kSecond = 1'000'000'000;

class SimNetTest : public ::testing::Test {
 protected:
  SimNetTest() {
    server = net.attach("server", world);
    client = net.attach("client", world);
    listener = std::move(server->listen({":4420"})).value();
  }
  static io::Task<void> accept_one(io::Listener* listener, StreamPtr* into) {
    auto stream = co_await listener->accept();
    if (stream.ok()) *into = std::move(*stream);
  }
  void connect() {
    io::TaskGroup group(world);
    group.spawn(accept_one(listener.get(), &there));
    auto stream = world.block_on(client->connect({"server:4420"}, world.now_ns() + kSecond));
    ASSERT_TRUE(stream.ok()) << stream.status().to_string();
    here = std::move(*stream);
    world.block_on(group.join());
    ASSERT_NE(there, nullptr);
  }
  static io::Task<void> close_one(StreamPtr* stream) {
    (*stream)->shutdown();
    co_await (*stream)->close();
    stream->reset();
  }
  static io::Task<void> send_task(io::Stream* stream, ConstBytes bytes, Status* status) {
    auto sent = co_await stream->send_all(bytes);
    *status = sent.status();
  }
  static io::Task<void> recv_task(io::Stream* stream, Bytes into, Result<size_t>* result) {
    *result = co_await stream->recv_some(into);
  }
  static io::Task<void> recv_exactly_task(io::Stream* stream, Bytes into, Status* status) {
    *status = co_await io::recv_exactly(stream, into);
  }
  std::vector<std::byte> noise(size_t length) {
    std::vector<std::byte> bytes(length);
    world.prng().fill(bytes);
    return bytes;
  }
  void transfer(size_t length) {
    auto sent = noise(length);
    std::vector<std::byte> got(length);
    Status send_status = error(Code::k_internal, "unset");
    Status recv_status = send_status;
    io::TaskGroup group(world);
    group.spawn(send_task(here.get(), sent, &send_status));
    group.spawn(recv_exactly_task(there.get(), got, &recv_status));
    world.block_on(group.join());
    EXPECT_TRUE(send_status.ok());
    EXPECT_TRUE(recv_status.ok()) << recv_status.to_string();
    EXPECT_EQ(sent == got, options_flips == 0);
  }
  ~SimNetTest() override {
    if (here) world.block_on(close_one(&here));
    if (there) world.block_on(close_one(&there));
    world.block_on(listener->close());
  }

  int options_flips = 0;
  SimLoop world{3};
  SimNet net{world, {}, Prng(4)};
  std::unique_ptr<io::Network> server;
  std::unique_ptr<io::Network> client;
  std::unique_ptr<io::Listener> listener;
  StreamPtr here;
  StreamPtr there;
};

TEST_F(SimNetTest, BytesArriveInOrderThroughASmallWindow) {
  net.options().window_bytes = 1000;
  net.options().lost_one_in = 50;
  connect();
  transfer(100'000);
}

TEST_F(SimNetTest, ASlowReaderStopsTheSender) {
  net.options().window_bytes = 4096;
  connect();
  auto data = noise(10'000);
  Status status;
  bool sent = false;
  struct Helper {
    static io::Task<void> run(io::Stream* stream, ConstBytes bytes, bool* sent) {
      (void)co_await stream->send_all(bytes);
      *sent = true;
    }
  };
  io::TaskGroup group(world);
  group.spawn(Helper::run(here.get(), data, &sent));
  world.run_for(10 * kSecond);
  EXPECT_FALSE(sent);
  std::vector<std::byte> got(10'000);
  group.spawn(recv_exactly_task(there.get(), got, &status));
  world.block_on(group.join());
  EXPECT_TRUE(status.ok() && sent);
  EXPECT_EQ(got, data);
}

TEST_F(SimNetTest, ShutdownIsTheEndOfTheStreamAfterTheData) {
  connect();
  auto data = noise(100);
  Status status;
  io::TaskGroup group(world);
  group.spawn(send_task(here.get(), data, &status));
  world.run_for(1);
  world.block_on(close_one(&here));
  std::vector<std::byte> got(200);
  Status received;
  group.spawn(recv_exactly_task(there.get(), got, &received));
  world.block_on(group.join());
  EXPECT_EQ(received.code(), Code::k_unavailable);
  got.resize(100);
  EXPECT_EQ(got, data);
}

TEST_F(SimNetTest, AResetFailsBothEnds) {
  connect();
  Result<size_t> first{size_t{1}};
  Result<size_t> second{size_t{1}};
  std::byte a[8];
  std::byte b[8];
  io::TaskGroup group(world);
  group.spawn(recv_task(here.get(), a, &first));
  group.spawn(recv_task(there.get(), b, &second));
  net.reset_connections();
  world.block_on(group.join());
  EXPECT_EQ(first.code(), Code::k_unavailable);
  EXPECT_EQ(second.code(), Code::k_unavailable);
}

TEST_F(SimNetTest, AHalfOpenConnectionTellsNobody) {
  connect();
  net.silence_connections();
  Result<size_t> result{size_t{99}};
  std::byte a[8];
  io::TaskGroup group(world);
  group.spawn(recv_task(there.get(), a, &result));
  Status sent = error(Code::k_internal, "unset");
  auto data = noise(10);
  group.spawn(send_task(here.get(), data, &sent));
  world.run_for(100 * kSecond);
  EXPECT_TRUE(sent.ok());
  EXPECT_EQ(*result, 99u);
  there->shutdown();
  world.block_on(group.join());
  EXPECT_EQ(*result, 0u);
}

TEST_F(SimNetTest, AOneWayPartitionStallsThatWayUntilHealed) {
  connect();
  net.block("client", "server");
  Status sent;
  Status received = error(Code::k_internal, "unset");
  auto data = noise(10);
  std::vector<std::byte> got(10);
  std::vector<std::byte> back(10);
  Status back_status = received;
  io::TaskGroup group(world);
  group.spawn(send_task(here.get(), data, &sent));
  group.spawn(recv_exactly_task(there.get(), got, &received));
  group.spawn(recv_exactly_task(here.get(), back, &back_status));
  world.run_for(kSecond);
  Status other;
  group.spawn(send_task(there.get(), data, &other));
  world.run_for(10 * kSecond);
  EXPECT_EQ(received.code(), Code::k_internal);
  EXPECT_TRUE(back_status.ok());
  net.heal();
  world.block_on(group.join());
  EXPECT_TRUE(received.ok());
  EXPECT_EQ(got, data);
}

TEST_F(SimNetTest, ConnectIsRefusedOrTimesOut) {
  auto refused = world.block_on(client->connect({"server:1"}, world.now_ns() + kSecond));
  EXPECT_EQ(refused.code(), Code::k_unavailable);
  net.block_both("client", "server");
  uint64_t deadline = world.now_ns() + kSecond;
  auto late = world.block_on(client->connect({"server:4420"}, deadline));
  EXPECT_EQ(late.code(), Code::k_timed_out);
  EXPECT_EQ(world.now_ns(), deadline);
  net.heal();
}

TEST_F(SimNetTest, APowerLossIsNoticedOnlyByTalkingToTheRestartedNode) {
  connect();
  net.crash("server", SimNet::Crash::kPower);
  Result<size_t> result{size_t{99}};
  std::byte a[8];
  io::TaskGroup group(world);
  group.spawn(recv_task(here.get(), a, &result));
  world.run_for(10 * kSecond);
  EXPECT_EQ(*result, 99u);
  auto restarted = net.attach("server", world);
  Status sent;
  auto data = noise(10);
  group.spawn(send_task(here.get(), data, &sent));
  world.block_on(group.join());
  EXPECT_EQ(result.code(), Code::k_unavailable);
  world.block_on(close_one(&there));
}

TEST_F(SimNetTest, AProcessCrashResetsThePeers) {
  connect();
  net.crash("server", SimNet::Crash::kProcess);
  Result<size_t> result{size_t{99}};
  std::byte a[8];
  io::TaskGroup group(world);
  group.spawn(recv_task(here.get(), a, &result));
  world.block_on(group.join());
  EXPECT_EQ(result.code(), Code::k_unavailable);
  auto accepted = world.block_on(listener->accept());
  EXPECT_EQ(accepted.code(), Code::k_cancelled);
}

TEST_F(SimNetTest, FlippedBitsArriveFlipped) {
  connect();
  net.options().flip_one_in = 1;
  options_flips = 1;
  transfer(10'000);
  EXPECT_GT(net.flips(), 0u);
}

}  // namespace
}  // namespace bb::sim
