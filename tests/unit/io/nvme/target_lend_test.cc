// SPDX-License-Identifier: Apache-2.0
// Reads that leave from the device's own memory: what the host gets, and when the device gets it
// back.
#include "io/nvme/target_fixture.h"
#include "io/nvme/target_world.h"

namespace bb::io::nvme {
namespace {

constexpr Digests kHeaders{.header = true};

struct LendingQueueTest : TargetQueueTest {
  std::unique_ptr<Link> control = admin(kHeaders);
  std::unique_ptr<Link> queue = io(*control, 1, kHeaders);
  explicit LendingQueueTest(TargetLimits limits = {}) : TargetQueueTest(limits) {
    queue->target.lending = true;
  }

  // Three reads, of which two are of the same place, and a write between them.
  Buffer commands() {
    Buffer all;
    uint16_t id = 0;
    for (uint64_t block : {8u, 100u, 8u}) {
      test::append(all, queue->wire.capsule(HostWire::io(IoOpcode::kRead, block, 2, 1024, id++)));
    }
    Buffer data = pattern(512, 5);
    test::append(all, queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 500, 1, 0, id), data));
    return all;
  }
  Buffer expected() const {
    Buffer all;
    for (size_t block : {8u, 100u, 8u}) {
      test::append(all, ConstBytes(memory).subspan(block * 512, 1024));
    }
    return all;
  }
};

TEST_F(LendingQueueTest, TakesNoMemoryOfOurs) {
  Buffer want = expected();
  uint64_t before = queue->target.most_bytes;
  for (int i = 0; i < 3; ++i) {
    queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 8, 2, 1024)));
  }
  EXPECT_EQ(queue->seen.data.size(), 3u * 1024);
  EXPECT_EQ(queue->target.most_bytes, before);
  EXPECT_EQ(queue->target.lent, 0);
  EXPECT_EQ(queue->target.queue.io_in_flight(), 0u);
}

// However little a send takes, the device has its memory back before anybody waits for the host.
TEST_F(LendingQueueTest, WhateverTheSocketHasRoomFor) {
  Buffer want = expected();
  const Buffer before = memory;
  bool waited = true;
  for (size_t room = 0; waited; ++room) {
    SCOPED_TRACE(room);
    queue->seen.data.clear();
    queue->target.room = room;
    waited = false;
    queue->target.while_it_waits = [&] {
      waited = true;
      EXPECT_EQ(queue->target.lent, 0);
      EXPECT_EQ(queue->target.queue.io_in_flight(), 0u);
      std::fill(memory.begin(), memory.begin() + 200 * 512, std::byte{0});  // somebody writes
    };
    queue->send(commands());
    if (room <= want.size()) EXPECT_TRUE(waited);
    ASSERT_EQ(queue->seen.data, want);
    ASSERT_FALSE(queue->seen.bad_digest || queue->seen.illegal);
    EXPECT_EQ(queue->target.buffers, 0);
    std::copy(before.begin(), before.begin() + 200 * 512, memory.begin());
  }
}

TEST_F(LendingQueueTest, WithDataDigestsNothingIs) {
  auto other = io(*control, 2, {.header = true, .data = true});
  other->target.lending = true;
  other->send(other->wire.capsule(HostWire::io(IoOpcode::kRead, 8, 2, 1024)));
  EXPECT_FALSE(other->target.ios.back().may_lend);
  EXPECT_EQ(other->seen.data, Buffer(memory.begin() + 4096, memory.begin() + 5120));
}

TEST_F(LendingQueueTest, NothingIsLentBehindASendThatWaits) {
  queue->target.room = 100;
  size_t begun = 0;
  queue->target.while_it_waits = [&] {
    if (begun > 0) return;
    begun = queue->target.ios.size();
    queue->target.queue.on_bytes(commands(), 1);
    EXPECT_EQ(queue->target.queue.next_io(), std::nullopt);
  };
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 8, 4096)));
  EXPECT_EQ(queue->target.ios.size(), begun + 4);  // afterwards they were
  EXPECT_EQ(queue->target.lent, 0);
}

// A read that had to wait at the device, and is lent what it wants when the host no longer reads.
TEST_F(LendingQueueTest, WhatIsLentLateIsCopied) {
  Buffer want = expected();
  queue->target.held = true;
  queue->send(commands());
  TargetQueue& of = queue->target.queue;
  uint16_t first = *of.next_io();
  uint16_t late = *of.next_io();
  auto lend = [&](uint16_t slot) {
    ++queue->target.lent;
    of.lend(slot, ConstBytes(memory).subspan(of.io(slot).offset_bytes, 1024));
    of.on_io_done(slot, Code::k_ok);
  };
  lend(first);
  ASSERT_NE(of.outgoing(), nullptr);
  ASSERT_NE(of.rest_after(10), nullptr);
  lend(late);
  EXPECT_EQ(queue->target.lent, 0);
  EXPECT_EQ(of.io_in_flight(), 0u);
  of.on_sent();
  std::vector<iovec>* next = of.outgoing();
  ASSERT_NE(next, nullptr);
  EXPECT_EQ(std::memcmp((*next)[1].iov_base, want.data() + 1024, 1024), 0);
  of.on_sent();
}

TEST_F(LendingQueueTest, AnEndGivesBack) {
  queue->target.held = true;
  queue->send(commands());
  TargetQueue& of = queue->target.queue;
  uint16_t first = 0;
  for (int i = 0; i < 3; ++i) {
    auto slot = of.next_io();
    ASSERT_TRUE(slot);
    ++queue->target.lent;
    of.lend(*slot, ConstBytes(memory).subspan(of.io(*slot).offset_bytes, 1024));
    if (i == 0) first = *slot;
    if (i > 0) of.on_io_done(*slot, Code::k_ok);
    if (i == 1) EXPECT_NE(of.outgoing(), nullptr);  // one is being sent, one waits for that
  }
  EXPECT_EQ(of.io_in_flight(), 3u);
  of.close("for a test");
  EXPECT_EQ(of.io_in_flight(), 2u);
  of.on_sent();
  EXPECT_EQ(of.io_in_flight(), 1u);
  of.on_io_done(first, Code::k_ok);
  EXPECT_EQ(of.io_in_flight(), 0u);
  EXPECT_EQ(queue->target.lent, 0);
}

TEST_F(LendingQueueTest, AnotherDeviceMayLendNothing) {
  queue->target.held = true;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 8, 2, 1024)));
  queue->target.lending = false;
  queue->target.held = false;
  queue->send({});
  EXPECT_FALSE(queue->target.ios.back().may_lend);
  EXPECT_EQ(queue->seen.data, Buffer(memory.begin() + 4096, memory.begin() + 5120));
  EXPECT_EQ(queue->target.buffers, 0);
}

// It has data for the host, and they are not the device's.
TEST_F(LendingQueueTest, AReservationReportIsNoRead) {
  Sqe report = HostWire::io(IoOpcode::kReservationReport, 15 | (uint64_t{1} << 32), 1, 64);
  EXPECT_EQ(queue->ask(report).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->seen.data, Buffer(64));
  EXPECT_EQ(queue->target.buffers, 0);
}

struct TightLendingTest : LendingQueueTest {
  TightLendingTest() : LendingQueueTest({.lent_bytes = 2048}) {}
};

TEST_F(TightLendingTest, OnLoanAtOnceIsOnlySoMuch) {
  queue->target.held = true;
  queue->send(commands());
  TargetQueue& of = queue->target.queue;
  std::optional<uint16_t> first = of.next_io();
  std::optional<uint16_t> second = of.next_io();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(of.next_io(), std::nullopt);
  of.on_io_done(*first, Code::k_io_error);
  of.on_io_done(*second, Code::k_io_error);
  queue->target.held = false;
  queue->send({});
  EXPECT_EQ(queue->target.ios.size(), 2u);  // the others
  EXPECT_EQ(queue->target.lent, 0);
}

constexpr uint32_t kLarge = 128 * 1024;
constexpr uint16_t kReads = 120;

Buffer filled(std::byte with) { return Buffer(kLarge, with); }

Task<void> write_all(Peer* peer, std::byte with) {
  for (uint16_t i = 0; i < kReads; ++i) {
    size_t r2ts = peer->seen.r2ts.size();
    size_t answers = peer->seen.responses.size();
    co_await peer->send(
        peer->wire.capsule(HostWire::io(IoOpcode::kWrite, i * 256u, 256, kLarge, i)));
    while (!peer->ended && peer->seen.r2ts.size() == r2ts) {
      auto got = co_await peer->stream->recv_some(peer->room);
      peer->ended = !got.ok() || *got == 0;
      if (!peer->ended) peer->seen.feed(ConstBytes(peer->room).first(*got));
    }
    if (peer->ended) co_return;
    uint16_t tag = peer->seen.r2ts.back().transfer_tag;
    co_await peer->send(
        peer->wire.h2c({.command_id = i, .transfer_tag = tag, .last = true}, filled(with)));
    co_await peer->wait(answers + 1);
  }
}

// It asks for 15 MiB and reads none of it: nobody else waits for that, and what it reads at last is
// of one piece.
Task<void> read_slowly(World* world) {
  auto admin = co_await attach(world, 0, 0xffff, kHeaders);
  auto slow = co_await attach(world, 1, id_of(*admin), kHeaders);
  auto other = co_await attach(world, 2, id_of(*admin), kHeaders);
  co_await write_all(other.get(), std::byte{1});
  Buffer reads;
  for (uint16_t i = 0; i < kReads; ++i) {
    test::append(reads,
                 slow->wire.capsule(HostWire::io(IoOpcode::kRead, i * 256u, 256, kLarge, i)));
  }
  co_await slow->send(reads);
  co_await write_all(other.get(), std::byte{2});
  EXPECT_EQ(other->seen.responses.size(), 1u + 2 * kReads);
  co_await slow->wait(1 + kReads, size_t{kReads} * kLarge);
  EXPECT_FALSE(slow->seen.bad_digest || slow->seen.illegal);
  EXPECT_EQ(slow->seen.data.size(), size_t{kReads} * kLarge);
  for (size_t at = 0; at < slow->seen.data.size(); at += kLarge) {
    auto begin = slow->seen.data.begin() + static_cast<ptrdiff_t>(at);
    EXPECT_EQ(std::count(begin, begin + kLarge, *begin), kLarge) << "torn at " << at;
  }
  co_await slow->stream->close();
  co_await other->stream->close();
  co_await admin->stream->close();
}

TEST(LendingTarget, ASlowReaderKeepsNobodyWaiting) {
  World world;
  world.open();
  world.reactor->block_on(read_slowly(&world));
  world.close();
}

}  // namespace
}  // namespace bb::io::nvme
