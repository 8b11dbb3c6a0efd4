// SPDX-License-Identifier: Apache-2.0
#include "io/flight_recorder.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "base/units.h"

namespace bb::io {
namespace {

FlightRecord ended(uint64_t ended_ns, uint64_t total_ns, bool failed = false) {
  return {.op = "read",
          .object = "mem:1M",
          .failed = failed,
          .status = failed ? "io_error" : "ok",
          .ended_ns = ended_ns,
          .device_ns = total_ns,
          .total_ns = total_ns};
}

void offer(FlightRecorder& recorder, uint64_t ended_ns, uint64_t total_ns) {
  if (recorder.slow(ended_ns, total_ns)) recorder.add(ended(ended_ns, total_ns));
}

TEST(FlightRecorder, KeepsTheLastOfEachKindNewestFirst) {
  FlightRecorder recorder(kNsPerMs);
  for (uint64_t i = 1; i <= 3 * FlightRecorder::kRing; ++i) {
    offer(recorder, i, kNsPerMs + i);
    if (i % 2 == 0) recorder.add(ended(i, i, true));
    auto slow = recorder.slow_records();
    ASSERT_EQ(slow.size(), std::min<size_t>(i, FlightRecorder::kRing));
    for (size_t k = 0; k < slow.size(); ++k) ASSERT_EQ(slow[k].ended_ns, i - k);
  }
  EXPECT_EQ(recorder.seen_slow(), 3 * FlightRecorder::kRing);
  EXPECT_EQ(recorder.seen_failed(), 3 * FlightRecorder::kRing / 2);
  EXPECT_EQ(recorder.failed_records().size(), FlightRecorder::kRing);
  EXPECT_EQ(recorder.failed_records().front().status, "io_error");
}

TEST(FlightRecorder, AStormOfErrorsLeavesTheSlowOnesInSight) {
  FlightRecorder recorder;
  offer(recorder, 1, kNsPerSecond);
  for (uint64_t i = 0; i < 10'000; ++i) recorder.add(ended(2 + i, 1, true));
  ASSERT_EQ(recorder.slow_records().size(), 1u);
  EXPECT_EQ(recorder.slow_records()[0].total_ns, kNsPerSecond);
}

TEST(FlightRecorder, ASetBarStays) {
  FlightRecorder recorder(5 * kNsPerMs);
  for (uint64_t i = 0; i < 100; ++i) {
    offer(recorder, i * kNsPerSecond, 5 * kNsPerMs);      // not longer
    offer(recorder, i * kNsPerSecond, 5 * kNsPerMs + 1);  // longer
  }
  EXPECT_EQ(recorder.seen_slow(), 100u);
  EXPECT_EQ(recorder.bar_ns(), 5 * kNsPerMs);
}

TEST(FlightRecorder, ByItselfItNotesAboutOneASecondWhateverSpeedIsUsual) {
  for (uint64_t usual_ns : {kNsPerMs * 3, kNsPerMs * 100, kNsPerSecond * 3}) {
    FlightRecorder recorder;
    Prng prng(usual_ns);
    constexpr uint64_t kPerSecond = 1000;
    auto run = [&](uint64_t from_s, uint64_t seconds) {
      for (uint64_t i = 0; i < seconds * kPerSecond; ++i) {
        offer(recorder, from_s * kNsPerSecond + i * (kNsPerSecond / kPerSecond),
              usual_ns / 2 + prng.below(usual_ns / 2));
      }
    };
    run(100, 60);  // the bar rises to what is usual
    uint64_t settled = recorder.seen_slow();
    run(160, 60);
    uint64_t a_minute = recorder.seen_slow() - settled;
    EXPECT_GE(a_minute, 20u) << usual_ns;
    EXPECT_LE(a_minute, 120u) << usual_ns;
    offer(recorder, 220 * kNsPerSecond, 2 * usual_ns);  // and what is not usual is noted
    EXPECT_EQ(recorder.slow_records().front().total_ns, 2 * usual_ns);
  }
}

TEST(FlightRecorder, NothingUnderAMillisecondIsSlowByItself) {
  FlightRecorder recorder;
  for (uint64_t i = 0; i < 1000; ++i) offer(recorder, i * kNsPerSecond, kNsPerMs);
  EXPECT_EQ(recorder.seen_slow(), 0u);
}

TEST(FlightRecorder, AfterAQuietHourTheBarIsLowAgain) {
  FlightRecorder recorder;
  for (uint64_t i = 0; i < 50; ++i) offer(recorder, i, 10 * kNsPerSecond);
  EXPECT_GT(recorder.bar_ns(), 9 * kNsPerSecond);
  offer(recorder, 3600 * kNsPerSecond, 2 * kNsPerMs);
  EXPECT_EQ(recorder.slow_records().front().total_ns, 2 * kNsPerMs);
}

TEST(FlightRecorder, TextsFromOutsideAreBounded) {
  FlightRecorder recorder;
  FlightRecord record = ended(1, 1, true);
  record.host = record.status = record.object = std::string(10'000, 'x');
  recorder.add(record);
  const FlightRecord kept = recorder.failed_records().front();
  for (const std::string& text : {kept.host, kept.status, kept.object}) {
    EXPECT_EQ(text.size(), FlightRecorder::kTextMax);
  }
}

}  // namespace
}  // namespace bb::io
