// SPDX-License-Identifier: Apache-2.0
// Members that take much longer than their peers.
#include "raid/slow_member.h"

#include "array_world.h"

namespace bb::raid {
namespace {

constexpr uint64_t kMs = kNsPerMs;

TEST(SlowMember, IsWhoTakesManyTimesAsLongAsItsPeers) {
  using P = Pace;
  struct {
    std::vector<MemberWork> work;
    std::vector<Pace> paces;
  } const cases[] = {
      {{{10, 10 * 40 * kMs}, {10, 10 * kMs}, {10, 20 * kMs}}, {P::kSlow, P::kFine, P::kFine}},
      {{{10, 10 * 7 * kMs}, {10, 10 * kMs}}, {P::kFine, P::kFine}},  // not eight times
      {{{10, 10 * 4 * kMs}, {10, 10'000}}, {P::kFine, P::kFine}},    // eight times of little
      {{{10, 10 * 6 * kMs}, {10, 10'000}}, {P::kSlow, P::kFine}},
      {{{7, 7 * 90 * kMs}, {10, 10 * kMs}}, {P::kUnknown, P::kUnknown}},  // too few to tell
      {{{10, 10 * 90 * kMs}}, {P::kUnknown}},                             // than whom?
      {{{10, 10 * 90 * kMs}, {10, 10 * 80 * kMs}, {10, 10 * kMs}},
       {P::kFine, P::kFine, P::kFine}},  // most are
  };
  for (const auto& c : cases) EXPECT_EQ(compare_paces(c.work), c.paces);
}

TEST(SlowMember, OneBadPeriodIsNone) {
  SlowMember member;
  for (int round = 0; round < 2; ++round) {
    for (Pace pace : {Pace::kSlow, Pace::kSlow, Pace::kFine, Pace::kSlow, Pace::kUnknown}) {
      member.period(pace, 1);
      EXPECT_FALSE(member.slow());
    }
    member.period(Pace::kFine, 1);
  }
  for (uint64_t i = 0; i < SlowMember::kPeriodsToSlow; ++i) member.period(Pace::kSlow, 5 + i);
  EXPECT_TRUE(member.slow());
  EXPECT_EQ(member.since_ns(), 7u);
  int probes = 0;
  for (int i = 0; i < 320; ++i) probes += member.avoid() ? 0 : 1;
  EXPECT_EQ(probes, 10);
  for (uint64_t i = 0; i < SlowMember::kPeriodsToFine; ++i) {
    EXPECT_TRUE(member.slow());
    member.period(Pace::kFine, 20);
  }
  EXPECT_FALSE(member.slow());
  EXPECT_FALSE(member.avoid());
}

struct SlowWorld : World {
  explicit SlowWorld(const char* raid) : World(raid, std::string(raid) == "1.2" ? 0 : 16 * KiB) {
    options.slow_check_ns = 400 * kMs;
  }
  bool slow(size_t slot) { return array->describe().members.at(slot).slow; }
  // Writes until it is so, for as long as a busy machine may need.
  bool eventually(const std::function<bool()>& so) {
    uint64_t until_ns = reactor->now_ns() + 30 * kNsPerSecond;
    for (uint64_t i = 0; !so() && reactor->now_ns() < until_ns; ++i) {
      Status status = write(i % 64 * 16 * KiB, 16 * KiB, 3);
      if (!status.ok()) return false;
      if (i % 16 == 0) nap_ms(1);
    }
    return so();
  }
};

TEST(SlowMember, IsReadOnlyWhereNobodyElseCanBeAndComesBack) {
  for (const char* raid : {"1.2", "10.4", "5.3", "6.5"}) {
    SlowWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 1 * MiB, 3));
    world.drives[1]->latency_ns = 25 * kMs;
    ASSERT_TRUE(world.eventually([&] { return world.slow(1); })) << raid;
    EXPECT_FALSE(world.slow(0));
    uint64_t before = world.drives[1]->reads;
    for (uint64_t at = 0; at < 1 * MiB; at += 16 * KiB) EXPECT_EQ(world.read(at, 16 * KiB), 3);
    EXPECT_LE(world.drives[1]->reads - before, 6u) << raid;
    world.drives[1]->latency_ns = 0;
    EXPECT_TRUE(world.eventually([&] { return !world.slow(1); })) << raid;
  }
}

TEST(SlowMember, IsFailedWhereThatIsWantedUnlessItIsNeeded) {
  SlowWorld world("1.2");
  world.options.slow_fail_ns = 200 * kMs;
  ASSERT_OK(world.create());
  world.drives[1]->latency_ns = 25 * kMs;
  ASSERT_TRUE(world.eventually([&] { return world.state(1) == MemberState::kFailed; }));
  EXPECT_NE(world.array->describe().reason.find("much slower than the others"), std::string::npos);
  world.drives[0]->latency_ns = 25 * kMs;  // alone it is compared with nobody
  EXPECT_EQ(world.read(0, 16 * KiB), 3);
  EXPECT_EQ(world.state(0), MemberState::kInSync);
}

}  // namespace
}  // namespace bb::raid
