// SPDX-License-Identifier: Apache-2.0
#include "backplane/scrub_schedule.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kDay = 24 * 3600 * kNsPerSecond;
constexpr uint64_t kNow = 20'000 * kDay;

ScrubSchedule monthly_at(std::string_view window) {
  ScrubSchedule schedule{.every_ns = 30 * kDay};
  Status status = parse_scrub_window(window, &schedule);
  EXPECT_TRUE(status.ok()) << status.to_string();
  return schedule;
}

TEST(ScrubSchedule, WindowsMayGoOverMidnight) {
  struct {
    const char* window;
    uint32_t minute;
    bool in;
  } const cases[] = {
      {"22:00-06:00", 21 * 60 + 59, false},
      {"22:00-06:00", 22 * 60, true},
      {"22:00-06:00", 0, true},
      {"22:00-06:00", 5 * 60 + 59, true},
      {"22:00-06:00", 6 * 60, false},
      {"01:30-04:00", 89, false},
      {"01:30-04:00", 90, true},
      {"01:30-04:00", 239, true},
      {"01:30-04:00", 240, false},
      {"00:00-00:00", 720, true},
      {"22:00-00:00", 1439, true},
      {"22:00-00:00", 0, false},
  };
  for (const auto& one : cases) {
    EXPECT_EQ(in_scrub_window(monthly_at(one.window), one.minute), one.in)
        << one.window << " at minute " << one.minute;
  }
}

TEST(ScrubSchedule, OtherTextsAreNoWindow) {
  for (const char* text : {"", "22:00", "22:00-6:00", "24:00-06:00", "22:60-06:00", "22:00_06:00",
                           "22-00-06-00", "22:00-06:00 ", "-1:00-06:00"}) {
    ScrubSchedule schedule;
    Status status = parse_scrub_window(text, &schedule);
    EXPECT_EQ(status.code(), Code::k_invalid_argument) << text;
  }
}

TEST(ScrubSchedule, DueWhenSoMuchTimeHasPassed) {
  ScrubSchedule night = monthly_at("22:00-06:00");
  ScrubMoment moment{.now_wall_ns = kNow, .minute_of_day = 23 * 60};
  auto at = [&](uint64_t latest) {
    moment.latest_end_wall_ns = latest;
    return next_scrub_step(night, moment);
  };
  EXPECT_EQ(at(0), ScrubStep::kStart);  // never yet
  EXPECT_EQ(at(kNow - 30 * kDay), ScrubStep::kStart);
  EXPECT_EQ(at(kNow - 30 * kDay + 1), ScrubStep::kNone);
  EXPECT_EQ(at(kNow), ScrubStep::kNone);
  EXPECT_EQ(at(kNow + kDay), ScrubStep::kNone);       // the clock went back a little
  EXPECT_EQ(at(kNow + kDay + 1), ScrubStep::kStart);  // or was wrong when that one ended
  moment.minute_of_day = 12 * 60;
  EXPECT_EQ(at(0), ScrubStep::kNone);
  moment.minute_of_day = 23 * 60;
  night.every_ns = 0;
  EXPECT_EQ(at(0), ScrubStep::kNone);
}

TEST(ScrubSchedule, OnlyWhatIsScheduledKeepsToTheWindow) {
  ScrubSchedule night = monthly_at("22:00-06:00");
  for (bool scheduled : {true, false}) {
    for (bool inside : {true, false}) {
      ScrubMoment moment{.now_wall_ns = kNow,
                         .minute_of_day = inside ? 60u : 720u,
                         .running = true,
                         .scheduled = scheduled};
      bool leave = scheduled && !inside;
      EXPECT_EQ(next_scrub_step(night, moment), leave ? ScrubStep::kSuspend : ScrubStep::kNone);
      moment.running = false;
      moment.interrupted = true;
      EXPECT_EQ(next_scrub_step(night, moment), leave ? ScrubStep::kNone : ScrubStep::kResume);
      moment.interrupted = false;
      moment.paused = true;
      EXPECT_EQ(next_scrub_step(night, moment), ScrubStep::kNone);
    }
  }
}

}  // namespace
}  // namespace bb::backplane
