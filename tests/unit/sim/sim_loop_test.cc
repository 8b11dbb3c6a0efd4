// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_loop.h"

#include <gtest/gtest.h>

#include "io/sync.h"

namespace bb::sim {
namespace {

io::Task<void> note_after(io::Loop* loop, uint64_t wait_ns, std::vector<int>* order, int mark) {
  co_await loop->sleep_for(wait_ns);
  order->push_back(mark);
}

TEST(SimLoop, EventsRunByTimeThenSequence) {
  SimLoop world(1);
  std::vector<int> order;
  io::TaskGroup group(world);
  group.spawn(note_after(&world, 200, &order, 3));
  group.spawn(note_after(&world, 100, &order, 1));
  group.spawn(note_after(&world, 100, &order, 2));
  uint64_t start = world.now_ns();
  world.block_on(group.join());
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(world.now_ns(), start + 200);
}

TEST(SimNode, AFastClockReachesItsDeadlineSooner) {
  for (int32_t drift : {-50'000, -1, 0, 1, 333, 50'000}) {
    SimLoop world(1);
    SimNode node(world, {.boot_ns = 77, .drift_ppm = drift}, Prng(2));
    uint64_t start = world.now_ns();
    std::vector<int> order;
    io::TaskGroup group(node);
    group.spawn(note_after(&node, 1'000'000'000, &order, 1));
    node.block_on(group.join());
    double expected = 1e9 / (1 + drift / 1e6);
    EXPECT_NEAR(static_cast<double>(world.now_ns() - start), expected, 3) << drift;
    EXPECT_GE(node.now_ns(), 1'000'000'077u) << drift;
  }
}

TEST(SimNode, DriftMayChangeAndTimeStaysMonotonic) {
  SimLoop world(1);
  SimNode node(world, {}, Prng(2));
  uint64_t before = node.now_ns();
  for (int32_t drift : {1000, -90'000, 90'000, 0}) {
    node.set_drift(drift);
    EXPECT_EQ(node.now_ns(), before);
    world.run_for(1'000'000);
    EXPECT_GT(node.now_ns(), before);
    before = node.now_ns();
  }
}

TEST(SimNode, AWallClockJumpLeavesTimersAlone) {
  SimLoop world(1);
  SimNode node(world, {.wall_offset_ns = -5'000'000'000}, Prng(2));
  EXPECT_EQ(node.wall_ns(), world.wall_ns() - 5'000'000'000);
  uint64_t monotonic = node.now_ns();
  node.jump_wall(3600'000'000'000);
  EXPECT_EQ(node.now_ns(), monotonic);
  EXPECT_EQ(node.wall_ns(), world.wall_ns() + 3'595'000'000'000);
}

TEST(SimNode, APausedNodeDoesNothingUntilItResumes) {
  SimLoop world(1);
  SimNode node(world, {}, Prng(2));
  std::vector<int> order;
  io::TaskGroup group(node);
  group.spawn(note_after(&node, 1'000, &order, 1));
  node.pause();
  world.run_for(1'000'000);
  EXPECT_TRUE(order.empty());
  EXPECT_TRUE(world.idle());
  node.resume();
  world.block_on(group.join());
  EXPECT_EQ(order.size(), 1u);
}

TEST(Trace, IsTheSameForTheSameEventsOnly) {
  Trace a;
  Trace b;
  a.event(1, "write", 2, 3);
  b.event(1, "write", 2, 3);
  EXPECT_EQ(a.hash(), b.hash());
  a.event(2, "write", 0, 1);
  b.event(2, "write", 1, 0);
  EXPECT_NE(a.hash(), b.hash());
}

}  // namespace
}  // namespace bb::sim
