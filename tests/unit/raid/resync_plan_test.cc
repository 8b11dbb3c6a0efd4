// SPDX-License-Identifier: Apache-2.0
#include "raid/resync_plan.h"

#include <gtest/gtest.h>

namespace bb::raid {
namespace {

TEST(ResyncPlan, TakesNeighboursWithTheSameNeeds) {
  Geometry geometry{.shape = *parse_shape("1.2", 0),
                    .member_bytes = 100 * 64 * KiB,
                    .region_size_bytes = 64 * KiB};
  RegionSet unequal(100), copied(100), behind(100);
  unequal.set_range(10, 3);
  behind.set_range(12, 30);
  BehindSet sets[] = {{.bit = 2, .regions = &behind}};
  auto next = [&](uint64_t cursor) {
    return next_resync_extent(geometry, unequal, copied, sets, cursor, 1 * MiB);
  };
  ResyncExtent extent = next(0);
  EXPECT_EQ(extent.regions.first, 10u);
  EXPECT_EQ(extent.regions.count, 2u);
  EXPECT_TRUE(extent.equalise);
  EXPECT_TRUE(extent.behind_mask.none());
  extent = next(12);
  EXPECT_EQ(extent.regions.count, 1u);
  EXPECT_TRUE(extent.equalise);
  EXPECT_EQ(extent.behind_mask, MemberMask(4));
  extent = next(13);
  EXPECT_EQ(extent.regions.count, 16u);  // at most 1 MiB
  EXPECT_FALSE(extent.equalise);
  EXPECT_EQ(next(90).regions.first, 10u);  // from the start again
  // What is being made equal is not copied from anybody until it is.
  copied.set_range(10, 3);
  EXPECT_EQ(next(0).regions.first, 13u);
  behind.clear_range(13, 29);
  EXPECT_TRUE(next(0).none());
  unequal.clear(12);
  EXPECT_EQ(next(0).regions.first, 12u);
  EXPECT_FALSE(next(0).equalise);
  behind.clear_all();
  EXPECT_TRUE(next(0).none());
}

TEST(ResyncPlan, ThrottleKeepsTheRate) {
  Throttle throttle;
  uint64_t now = 1000;
  for (int i = 0; i < 100; ++i) now = throttle.take(now, 1 * MiB, 100 * MiB);
  EXPECT_NEAR(static_cast<double>(now - 1000), 1e9, 1e3);
  EXPECT_EQ(throttle.take(now, 1 * MiB, 0), now);
}

TEST(ReadBalance, Choice) {
  using C = ReadCandidate;
  struct Case {
    const char* name;
    std::vector<C> candidates;
    uint32_t rotation, expected;
  };
  const Case cases[] = {
      {"none usable", {C{}, C{}}, 0, kNoCandidate},
      {"the only one", {C{}, C{.usable = true, .in_flight = 9}}, 0, 1},
      {"least busy", {C{true, false, 3}, C{true, false, 1}, C{true, false, 2}}, 0, 1},
      {"none that is slow", {C{true, false, 1, true}, C{true, false, 9}}, 0, 1},
      {"slow ones alone", {C{false, false, 0}, C{true, false, 9, true}}, 0, 1},
      {"rotation", {C{true, false, 0}, C{true, false, 0}}, 1, 1},
      {"sequential", {C{true, false, 0}, C{true, false, 0}, C{true, true, 0}}, 0, 2},
      {"busy beats sequential", {C{true, false, 0}, C{true, true, 1}}, 0, 0},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(choose_read_member(c.candidates, c.rotation), c.expected) << c.name;
  }
}

}  // namespace
}  // namespace bb::raid
