// SPDX-License-Identifier: Apache-2.0
// The target's driver over real TCP, with a host that is nothing but bytes.
#include "io/nvme/target_world.h"

namespace bb::io::nvme {
namespace {

Task<void> write_and_read(World* world, Digests digests) {
  auto admin = co_await attach(world, 0, 0xffff, digests);
  auto queue = co_await attach(world, 1, id_of(*admin), digests);
  Buffer expected;
  Buffer writes;
  Buffer reads;
  for (uint16_t i = 0; i < 64; ++i) {
    Buffer data(4096, static_cast<std::byte>(i + 1));
    test::append(expected, data);
    test::append(writes,
                 queue->wire.capsule(HostWire::io(IoOpcode::kWrite, i * 8u, 8, 0, i), data));
    test::append(reads, queue->wire.capsule(HostWire::io(IoOpcode::kRead, i * 8u, 8, 4096, i)));
  }
  co_await queue->send(writes);
  co_await queue->wait(65);
  co_await queue->send(reads);
  co_await queue->wait(129, expected.size());
  EXPECT_EQ(queue->seen.data, expected);
  EXPECT_FALSE(queue->seen.bad_digest || queue->seen.illegal);
  auto stats = world->target->controllers();
  EXPECT_EQ(stats.size(), 1u);
  EXPECT_EQ(stats[0].io_queues, 1);
  EXPECT_EQ(stats[0].digests, digests);
  EXPECT_EQ(stats[0].counters.reads, 64u);
  EXPECT_EQ(stats[0].counters.written_bytes, 64u * 4096);
  co_await queue->stream->close();
  co_await admin->stream->close();
}

Task<void> read_and_remove(World* world, Device* second) {
  auto added = world->target->add_namespace(test::kNqn, {.device = second, .read_only = true});
  EXPECT_EQ(added.ok() ? *added : 0, 2u);
  auto admin = co_await attach(world, 0, 0xffff);
  auto queue = co_await attach(world, 1, id_of(*admin));
  Sqe write = HostWire::io(IoOpcode::kWrite, 0, 1, 512);
  write.nsid = 2;
  co_await queue->send(queue->wire.capsule(write, Buffer(512)));
  co_await queue->wait(2);
  EXPECT_EQ(queue->seen.responses[1].status, final_status(NvmeStatus::kNamespaceWriteProtected));
  Sqe read = HostWire::io(IoOpcode::kRead, 0, 8, 4096);
  read.nsid = 2;
  Buffer reads;
  for (uint16_t i = 0; i < 8; ++i) {
    read.command_id = i;
    test::append(reads, queue->wire.capsule(read));
  }
  co_await queue->send(reads);  // some are with the device by the time it is taken away
  Status removed = co_await world->target->remove_namespace(test::kNqn, 2);
  EXPECT_TRUE(removed.ok()) << removed.to_string();
  EXPECT_TRUE((co_await second->close()).ok());
  co_await queue->wait(10);
  EXPECT_EQ(queue->seen.responses.size(), 10u);
  Status again = co_await world->target->remove_namespace(test::kNqn, 2);
  EXPECT_EQ(again.text(), std::string("subsystem ") + test::kNqn + ": has no namespace 2");
  co_await queue->stream->close();
  co_await admin->stream->close();
}

TEST(Target, ANamespaceIsAddedAndTakenAwayUnderAHost) {
  World world;
  world.open();
  auto second =
      std::move(world.reactor->block_on(open_device(world.context, "fault:mem:1M?latency=5ms")))
          .value();
  world.reactor->block_on(read_and_remove(&world, second.get()));
  world.close();
}

TEST(Target, WritesAndReadsOverTcp) {
  for (Digests digests : {Digests{false, false}, Digests{true, true}}) {
    World world;
    world.open();
    world.reactor->block_on(write_and_read(&world, digests));
    world.close();
  }
}

struct Illegal {
  const char* name;
  const char* bytes;  // sent after ICReq, unless it is one
  bool instead_of_ic_req;
  FatalError error;
  uint32_t information;
};

const Illegal kIllegals[] = {
    {"command first", "04 00 48 00 48 00 00 00", true, FatalError::kSequence, 0},
    {"unknown type", "0a 00 48 00 48 00 00 00", false, FatalError::kInvalidHeaderField, 0},
    {"header length", "04 00 40 00 48 00 00 00", false, FatalError::kInvalidHeaderField, 2},
    {"data offset", "04 00 48 49 4c 02 00 00", false, FatalError::kInvalidHeaderField, 3},
    {"length", "04 00 48 00 47 00 00 00", false, FatalError::kInvalidHeaderField, 4},
    {"digest flag", "04 01 48 00 4c 00 00 00", false, FatalError::kInvalidHeaderField, 1},
    {"too much data", "06 00 18 18 ff ff 00 10", false, FatalError::kLimitExceeded, 4},
};

Task<void> send_illegal(World* world, const Illegal* test) {
  auto peer = std::make_unique<Peer>();
  auto stream = co_await world->network->connect({world->target->addresses()[0]},
                                                 world->reactor->now_ns() + kSecond);
  peer->stream = std::move(stream).value();
  if (!test->instead_of_ic_req) co_await peer->send(HostWire::ic_req());
  co_await peer->send(unhex(test->bytes));
  co_await peer->wait(99);
  EXPECT_EQ(peer->seen.term.error, test->error) << test->name;
  EXPECT_EQ(peer->seen.term.information, test->information) << test->name;
  co_await peer->stream->close();
}

TEST(Target, IllegalPdusGetATerminationRequest) {
  World world;
  world.open();
  for (const Illegal& test : kIllegals) {
    world.reactor->block_on(send_illegal(&world, &test));
  }
  world.close();
}

Task<void> cut_off(World* world) {
  auto admin = co_await attach(world, 0, 0xffff);
  auto queue = co_await attach(world, 1, id_of(*admin));
  co_await world->target->disconnect(
      test::kNqn, [](const HostIdentity& host) { return host.host_nqn == test::kHostNqn; });
  EXPECT_TRUE(world->target->controllers().empty());
  co_await queue->wait(99);
  co_await admin->wait(99);
  EXPECT_TRUE(queue->ended && admin->ended);
  auto again = co_await attach(world, 0, 0xffff);  // nobody forbade it
  co_await again->stream->close();
  co_await queue->stream->close();
  co_await admin->stream->close();
}

TEST(Target, DisconnectEndsEveryQueueOfTheHost) {
  World world;
  world.open();
  world.reactor->block_on(cut_off(&world));
  world.close();
}

// Holds writes back until it is told to let them go.
class HoldingDevice final : public Device {
 public:
  HoldingDevice() {
    info_.uri = "holding:";
    info_.size_bytes = 1 << 20;
    info_.transfer_max_bytes = 64 << 10;
  }
  Task<Status> close() override { co_return Status(); }
  void let_go() {
    for (IoRequest* each : std::exchange(held, {})) each->done(each, Status());
  }
  std::vector<IoRequest*> held;
  uint32_t submitted = 0;

 protected:
  void do_submit(IoRequest& request) override {
    ++submitted;
    held.push_back(&request);
  }
};

// A write of the host's first association is with the device, another only half received, when the
// host connects anew; `single` is whether that must wait.
Task<void> connect_again(World* world, HoldingDevice* device, bool single) {
  Loop& loop = *world->reactor;
  auto admin = co_await attach(world, 0, 0xffff);
  auto queue = co_await attach(world, 1, id_of(*admin));
  Buffer data(4096);
  Buffer second = queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 8, 8, 0, 4), data);
  co_await queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0, 3), data));
  co_await queue->send(Buffer(second.begin(), second.begin() + 1000));
  while (device->held.empty()) co_await loop.sleep_for(1'000'000);

  auto stranger = co_await dial(world);  // another host is of no concern
  co_await stranger->send(
      stranger->wire.connect(0, 31, 0xffff, test::kNqn, std::string(test::kHostNqn) + "2"));
  co_await stranger->wait(1);
  EXPECT_EQ(stranger->seen.responses.at(0).status, NvmeStatus::kSuccess);

  auto again = co_await dial(world);
  auto gone = co_await dial(world);  // gives up while it waits
  for (Peer* peer : {gone.get(), again.get()}) {
    co_await peer->send(peer->wire.connect(0, 31, 0xffff, test::kNqn, test::kHostNqn));
  }
  co_await loop.sleep_for(100'000'000);
  EXPECT_EQ(world->target->controllers().size(), single ? 1u : 4u);
  co_await gone->stream->close();
  gone.reset();
  co_await queue->send(Buffer(second.begin() + 1000, second.end()));
  co_await loop.sleep_for(100'000'000);
  EXPECT_EQ(device->submitted, single ? 1u : 2u);
  device->let_go();
  co_await again->wait(1);
  EXPECT_EQ(again->seen.responses.at(0).status, NvmeStatus::kSuccess);
  co_await loop.sleep_for(100'000'000);
  EXPECT_TRUE(device->held.empty());  // nothing of the first came behind it
  EXPECT_EQ(world->target->controllers().size(), single ? 2u : 3u);
  for (Peer* peer : {queue.get(), admin.get(), stranger.get(), again.get()}) {
    co_await peer->stream->close();
  }
}

TEST(Target, ASingleAssociationEndsBeforeTheNextBegins) {
  for (bool single : {true, false}) {
    World world;
    HoldingDevice device;
    TargetOptions options;
    options.listen = {{"127.0.0.1:0"}};
    world.target = std::move(Target::create(world.context, std::move(options))).value();
    Status added = world.target->add_subsystem(
        {.nqn = test::kNqn, .device = &device, .single_association = single});
    ASSERT_TRUE(added.ok()) << added.to_string();
    world.reactor->block_on(connect_again(&world, &device, single));
    world.reactor->block_on(world.target->stop());
  }
}

Task<void> stay_silent(World* world) {
  auto admin = co_await attach(world, 0, 0xffff, {}, 1000);
  uint64_t begin = world->reactor->now_ns();
  co_await admin->wait(99);
  uint64_t took = world->reactor->now_ns() - begin;
  EXPECT_GT(took, kSecond);
  EXPECT_LT(took, 4 * kSecond);
  auto idle = co_await dial(world);  // never sends Connect
  co_await idle->wait(99);
  EXPECT_TRUE(idle->ended);
  co_await idle->stream->close();
  co_await admin->stream->close();
}

TEST(Target, SilenceEndsAConnection) {
  World world;
  world.open({.limits = {.handshake_ns = kSecond / 2, .keep_alive_grace_ns = 0}});
  world.reactor->block_on(stay_silent(&world));
  world.close();
}

Task<void> vanish(World* world) {
  auto admin = co_await attach(world, 0, 0xffff, {true, true});
  auto queue = co_await attach(world, 1, id_of(*admin), {true, true});
  Buffer reads;
  for (uint16_t i = 0; i < 100; ++i) {
    test::append(reads, queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 256, 131072, i)));
  }
  co_await queue->send(reads);  // 12 MiB of answers that nobody will take
  co_await queue->stream->close();
  co_await admin->stream->close();
}

// The oldest of those who say nothing make room, and no others.
TEST(Target, AHostGetsThroughBetweenConnectionsThatSayNothing) {
  World world;
  world.open({.limits = {.connections = 16, .handshakes = 4}});
  auto task = [](World* w) -> Task<void> {
    auto before = co_await attach(w, 0, 0xffff);
    std::vector<std::unique_ptr<Peer>> silent;
    for (int i = 0; i < 40; ++i) silent.push_back(co_await dial(w));
    auto after = co_await attach(w, 0, 0xffff);
    EXPECT_EQ(after->seen.responses.size(), 2u);
    EXPECT_EQ(w->target->controllers().size(), 2u);
    EXPECT_FALSE(before->ended);
    co_await silent[0]->wait(1);
    EXPECT_TRUE(silent[0]->ended);
    for (auto& peer : silent) co_await peer->stream->close();
    co_await before->stream->close();
    co_await after->stream->close();
  };
  world.reactor->block_on(task(&world));
  world.close();
}

TEST(Target, HostsThatVanishLeaveNothingBehind) {
  World world;
  world.open();
  for (int i = 0; i < 5; ++i) world.reactor->block_on(vanish(&world));
  world.reactor->block_on(cut_off(&world));
  Status removed = world.reactor->block_on(world.target->remove_subsystem(test::kNqn));
  EXPECT_TRUE(removed.ok());
  EXPECT_EQ(world.reactor->block_on(world.target->remove_subsystem(test::kNqn)).code(),
            Code::k_not_found);
  world.close();
}

TEST(Target, RefusesWhatItCannotPublish) {
  World world;
  world.open();
  Status twice = world.target->add_subsystem({.nqn = test::kNqn, .device = world.device.get()});
  EXPECT_EQ(twice.code(), Code::k_already_exists);
  Status name = world.target->add_subsystem({.nqn = "drive", .device = world.device.get()});
  EXPECT_EQ(name.code(), Code::k_invalid_argument);
  auto port = Target::create(world.context, {.listen = {{world.target->addresses()[0]}}});
  EXPECT_EQ(port.code(), Code::k_already_exists);
  world.close();
}

}  // namespace
}  // namespace bb::io::nvme
