// SPDX-License-Identifier: Apache-2.0
#include "io/side_ring.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <set>

namespace bb::io {
namespace {

struct Counted : SideRing::Op {
  io_uring_sqe* entry = nullptr;
  int32_t result = 0;
  int ended = 0;
  Counted() {
    complete = [](SideRing::Op* op, int32_t outcome) {
      auto* self = static_cast<Counted*>(op);
      self->result = outcome;
      ++self->ended;
    };
  }
};

class SideRingTest : public testing::Test {
 protected:
  static constexpr uint32_t kEntries = 4;

  void SetUp() override {
    auto made = Reactor::create({.engine = EngineKind::kUring});
    if (made.code() == Code::k_not_supported) GTEST_SKIP() << made.status().to_string();
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    reactor = std::move(made).value();
    auto ring = SideRing::create(*reactor, kEntries, false);
    if (ring.code() == Code::k_not_supported) GTEST_SKIP() << ring.status().to_string();
    ASSERT_TRUE(ring.ok()) << ring.status().to_string();
    side = std::move(ring).value();
    ASSERT_EQ(::pipe(pipe.data()), 0);
  }
  void TearDown() override {
    side.reset();
    reactor.reset();
    for (int fd : pipe) {
      if (fd >= 0) ::close(fd);
    }
  }

  void submit(Counted& op, uint8_t opcode) {
    op.entry = side->prepare(op);
    op.entry->opcode = opcode;
  }
  void run_until_ended(Counted& op, int times) {
    for (int turn = 0; turn < 10000 && op.ended < times; ++turn) reactor->run_once(true);
    ASSERT_EQ(op.ended, times);
  }

  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<SideRing> side;
  std::array<int, 2> pipe{-1, -1};
};

// The kernel may read an entry until its command has ended (see the class).
TEST_F(SideRingTest, AnEntryIsItsCommandsUntilTheCommandEnds) {
  Counted waits;
  char got = 0;
  submit(waits, IORING_OP_READ);
  waits.entry->fd = pipe[0];
  waits.entry->addr = reinterpret_cast<uint64_t>(&got);
  waits.entry->len = 1;
  alignas(io_uring_sqe) std::array<std::byte, 2 * sizeof(io_uring_sqe)> before;
  std::memcpy(before.data(), waits.entry, before.size());

  Counted others[kEntries - 1];
  for (int round = 1; round <= 5; ++round) {  // places come around, more than once
    std::set<io_uring_sqe*> entries{waits.entry};
    for (Counted& op : others) {
      submit(op, IORING_OP_NOP);
      EXPECT_TRUE(entries.insert(op.entry).second) << "an entry of two commands";
    }
    for (Counted& op : others) run_until_ended(op, round);
    EXPECT_EQ(std::memcmp(before.data(), waits.entry, before.size()), 0);
  }
  EXPECT_EQ(waits.ended, 0);
  ASSERT_EQ(::write(pipe[1], "x", 1), 1);
  run_until_ended(waits, 1);
  EXPECT_EQ(waits.result, 1);
  EXPECT_EQ(got, 'x');
}

// Commands that end out of order give entries back out of order; each completion is its own.
TEST_F(SideRingTest, EachCompletionFindsItsCommand) {
  Counted good;
  Counted bad;
  for (int round = 1; round <= 20; ++round) {
    submit(bad, IORING_OP_READ);
    bad.entry->fd = -1;
    submit(good, IORING_OP_NOP);
    run_until_ended(good, round);
    run_until_ended(bad, round);
    EXPECT_EQ(good.result, 0);
    EXPECT_EQ(bad.result, -EBADF);
  }
}

}  // namespace
}  // namespace bb::io
