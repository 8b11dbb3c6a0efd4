// SPDX-License-Identifier: Apache-2.0
#include "raid/resync_pace.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace bb::raid {
namespace {

constexpr uint64_t kLeast = 8 * MiB;
constexpr uint64_t kLimit = 1 * GiB;

// A host with a request each 100 us, whose latency depends on how fast resync goes.
struct Host {
  ResyncPace pace;
  uint64_t now_ns = kNsPerSecond;
  double copied_bytes = 0;

  template <typename Latency>
  void run(uint64_t ns, Latency latency_ns) {
    for (uint64_t end = now_ns + ns; now_ns < end; now_ns += 100'000) {
      uint64_t rate = pace.rate(now_ns, kLeast, kLimit);
      if (rate == 0) EXPECT_GT(pace.resting_until_ns(), now_ns);
      if (rate != 0) EXPECT_GE(rate, kLeast);
      EXPECT_LE(rate, kLimit);
      copied_bytes += static_cast<double>(rate) * 1e-4;
      pace.host_done(latency_ns(rate));
    }
  }
  double share(uint64_t ns) {  // of the limit, on average
    return copied_bytes / static_cast<double>(kLimit) / (static_cast<double>(ns) * 1e-9);
  }
};

TEST(ResyncPace, GoesAsFastAsItMayWhereTheHostDoesNotNotice) {
  Host host;
  host.run(3 * kNsPerSecond, [](uint64_t) { return 200'000u; });
  host.copied_bytes = 0;
  host.run(10 * kNsPerSecond, [](uint64_t) { return 200'000u; });
  EXPECT_GT(host.share(10 * kNsPerSecond), 0.95);
  EXPECT_EQ(host.pace.alone_p99_ns(), 200'000u);
}

// Latency grows with the rate: at 400 MiB/s it is one and a half of what it is alone.
TEST(ResyncPace, FindsTheRateThatTheHostBears) {
  auto latency = [](uint64_t rate) { return 100'000 + 50'000 * rate / (400 * MiB); };
  Host host;
  host.run(3 * kNsPerSecond, latency);
  host.copied_bytes = 0;
  host.run(10 * kNsPerSecond, latency);
  EXPECT_GT(host.share(10 * kNsPerSecond), 0.15);
  EXPECT_LT(host.share(10 * kNsPerSecond), 0.45);
  EXPECT_LE(host.pace.beside_p99_ns(), 165'000u);
}

TEST(ResyncPace, StepsBackToTheLeastAndNoFurther) {
  Host host;
  auto latency = [](uint64_t rate) { return rate == 0 ? 100'000u : 1'000'000u; };
  host.run(5 * kNsPerSecond, latency);
  host.copied_bytes = 0;
  host.run(5 * kNsPerSecond, latency);
  double least = static_cast<double>(kLeast) / static_cast<double>(kLimit);
  EXPECT_LT(host.share(5 * kNsPerSecond), 1.01 * least);
  EXPECT_GT(host.share(5 * kNsPerSecond), 0.9 * least);
}

// What the host does changes: its latency alone is looked at again.
TEST(ResyncPace, WhatIsUsualIsLearntAnew) {
  Host host;
  host.run(5 * kNsPerSecond, [](uint64_t) { return 100'000u; });
  host.run(15 * kNsPerSecond, [](uint64_t) { return 2'000'000u; });
  EXPECT_EQ(host.pace.alone_p99_ns(), 2'000'000u);
  host.copied_bytes = 0;
  host.run(5 * kNsPerSecond, [](uint64_t) { return 2'000'000u; });
  EXPECT_GT(host.share(5 * kNsPerSecond), 0.9);
}

TEST(ResyncPace, AFewRequestsDecideNothing) {
  Host host;
  for (int i = 0; i < 100; ++i) {
    uint64_t rate = host.pace.rate(host.now_ns, kLeast, kLimit);
    if (rate != 0) EXPECT_EQ(rate, 64 * MiB);
    host.pace.host_done(rate == 0 ? 1000 : 1'000'000);
    host.now_ns += 20 * kNsPerMs;
  }
}

// No request ends, so nothing is known of the host: that is no reason to rest for ever.
TEST(ResyncPace, ARequestThatHangsStopsNothing) {
  Host host;
  uint64_t rested = 0;
  for (int i = 0; i < 100; ++i) {
    if (host.pace.rate(host.now_ns, kLeast, kLimit) == 0) ++rested;
    host.now_ns += 100 * kNsPerMs;
  }
  EXPECT_LE(rested, 6u);
}

}  // namespace
}  // namespace bb::raid
