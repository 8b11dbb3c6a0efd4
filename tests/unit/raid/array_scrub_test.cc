// SPDX-License-Identifier: Apache-2.0
// The scrub of a whole array: stopped, resumed, and remembered by the members.
#include <nlohmann/json.hpp>
#include <optional>

#include "checked_world.h"

namespace bb::raid {
namespace {

struct ScrubWorld : CheckedWorld {
  using CheckedWorld::CheckedWorld;

  Result<ScrubRun> all(ScrubOptions options = {}) { return run(array->scrub_all(options)); }
  Status stop_scrub(ScrubStop how) { return run(array->stop_scrub(how)); }
  ScrubInfo info() {
    run(load(array.get()));
    return array->scrub_info();
  }
  std::string state() { return describe_scrub(info())["state"].get<std::string>(); }
  // From the next begin of a slice at or after this byte of member 0 on; once.
  void stop_at(uint64_t member_bytes, ScrubStop how) {
    drives[0]->fault = [this, member_bytes, how](const io::IoRequest& request) {
      uint64_t from = kDataOffsetBytes + member_bytes;
      bool there = request.op == io::IoOp::kRead && request.offset_bytes >= from &&
                   request.offset_bytes < from + 1 * MiB;  // checksums lie behind the data
      if (there && !stopping) {
        stopping = true;
        stops->spawn(stop_task(how));
      }
      return Status();
    };
  }
  io::Task<void> stop_task(ScrubStop how) { stopped = co_await array->stop_scrub(how); }
  static io::Task<bool> load(Array* array) {
    co_await array->load_scrub_log();
    co_return true;
  }
  // A scrub that came some way and was then stopped so.
  void begin_and_stop(ScrubStop how, ScrubOptions options = {}) {
    stopping = false;
    stops.emplace(*reactor);
    stop_at(5 * MiB, how);
    Result<ScrubRun> ended = all(options);
    drives[0]->fault = nullptr;
    EXPECT_EQ(ended.code(), Code::k_cancelled) << ended.status().to_string();
    run(join(&*stops));
    ASSERT_OK(stopped);
  }
  static io::Task<bool> join(io::TaskGroup* group) {
    co_await group->join();
    co_return true;
  }

  bool stopping = false;
  Status stopped;
  std::optional<io::TaskGroup> stops;  // of one scrub
};

std::vector<size_t> every(const World& world) {
  std::vector<size_t> which(world.drives.size());
  for (size_t i = 0; i < which.size(); ++i) which[i] = i;
  return which;
}

TEST(ArrayScrub, ACrashCostsNoMoreThanTheLatestStretch) {
  for (const char* raid : {"1.2", "5.3"}) {
    ScrubWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 256 * KiB, 3));
    ASSERT_OK(world.flush());
    EXPECT_EQ(world.state(), "never");
    world.begin_and_stop(ScrubStop::kSuspend, {.scheduled = true});
    ScrubInfo before = world.info();
    EXPECT_EQ(world.state(), "interrupted") << raid;
    ASSERT_TRUE(before.log.open.has_value());
    EXPECT_GE(before.log.open->position_bytes, 4 * MiB);
    EXPECT_LT(before.log.open->position_bytes, before.size_bytes);
    world.crash(true);
    for (auto& drive : world.drives) drive->fault = nullptr;
    ASSERT_OK(world.assemble(every(world)));
    EXPECT_EQ(world.state(), "interrupted") << raid;
    EXPECT_EQ(*world.info().log.open, *before.log.open);
    ASSERT_OK(world.in_sync());
    uint64_t first_read = UINT64_MAX;
    world.drives[0]->fault = [&](const io::IoRequest& request) {
      bool data = request.op == io::IoOp::kRead && request.offset_bytes >= kDataOffsetBytes;
      if (data) first_read = std::min(first_read, request.offset_bytes - kDataOffsetBytes);
      return Status();
    };
    Result<ScrubRun> ended = world.all({.resume = true, .scheduled = true});
    world.drives[0]->fault = nullptr;
    ASSERT_TRUE(ended.ok()) << ended.status().to_string();
    if (std::string(raid) == "1.2") EXPECT_GE(first_read, before.log.open->position_bytes);
    EXPECT_EQ(ended->report.checked_bytes, before.size_bytes) << raid;
    EXPECT_TRUE(ended->scheduled);
    EXPECT_EQ(ended->begun_wall_ns, before.log.open->begun_wall_ns);
    EXPECT_EQ(world.state(), "done");
    ASSERT_OK(world.stop());
    ASSERT_OK(world.assemble(every(world)));
    ASSERT_EQ(world.info().log.history.size(), 1u);
    EXPECT_EQ(world.info().log.history[0], *ended);
  }
}

// All that is certain then is that one was begun.
TEST(ArrayScrub, ACrashInItsMiddleIsAnInterruption) {
  ScrubWorld world("1.2");
  ASSERT_OK(world.create());
  world.drives[0]->fault = [&](const io::IoRequest& request) {
    if (request.offset_bytes < kDataOffsetBytes + 3 * MiB) return Status();
    if (request.offset_bytes > kDataOffsetBytes + 4 * MiB) return Status();
    for (auto& drive : world.drives) {
      drive->fault = [](const io::IoRequest&) { return error(Code::k_io_error, "crashed"); };
    }
    return error(Code::k_io_error, "crashed");
  };
  EXPECT_FALSE(world.all().ok());
  world.crash(true);
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.state(), "interrupted");
  EXPECT_EQ(world.info().log.open->position_bytes, 0u);
  Result<ScrubRun> ended = world.all({.resume = true});
  ASSERT_TRUE(ended.ok()) << ended.status().to_string();
  EXPECT_EQ(ended->report.checked_bytes, world.info().size_bytes);
  EXPECT_EQ(world.state(), "done");
}

TEST(ArrayScrub, WhatWasFoundIsRemembered) {
  ScrubWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 256 * KiB, 3));
  ASSERT_OK(world.flush());
  world.rot(40 * KiB, 1);
  world.rot(20 * KiB, 0);
  world.rot(20 * KiB, 1);
  Result<ScrubRun> ended = world.all();
  ASSERT_TRUE(ended.ok()) << ended.status().to_string();
  std::vector<ScrubFinding> wanted = {{20 * KiB, false}, {40 * KiB, true}};
  EXPECT_EQ(ended->report.findings, wanted);
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({1}));  // a single member of them is enough
  EXPECT_EQ(world.info().log.history.at(0).report.findings, wanted);
  EXPECT_EQ(describe_scrub(world.info())["text"], "1 blocks repaired, 1 could not be");
}

TEST(ArrayScrub, PauseWaitsAndCancelEnds) {
  ScrubWorld world("1.2");
  ASSERT_OK(world.create());
  EXPECT_EQ(world.stop_scrub(ScrubStop::kCancel).code(), Code::k_bad_state);
  world.begin_and_stop(ScrubStop::kPause, {.scheduled = true});
  EXPECT_EQ(world.state(), "paused");
  EXPECT_TRUE(world.info().log.open->scheduled);
  world.begin_and_stop(ScrubStop::kPause, {.resume = true});
  EXPECT_FALSE(world.info().log.open->scheduled);  // an operator took it over
  uint64_t at = world.info().log.open->position_bytes;
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.state(), "paused");
  EXPECT_EQ(world.info().log.open->position_bytes, at);
  // One begun anew ends it.
  world.begin_and_stop(ScrubStop::kCancel);
  EXPECT_EQ(world.state(), "cancelled");
  ASSERT_EQ(world.info().log.history.size(), 2u);
  EXPECT_EQ(world.info().log.history[1].position_bytes, at);
  world.begin_and_stop(ScrubStop::kSuspend);
  ASSERT_OK(world.stop_scrub(ScrubStop::kPause));  // none runs, and it will not by itself
  EXPECT_EQ(world.state(), "paused");
  ASSERT_OK(world.stop_scrub(ScrubStop::kCancel));
  EXPECT_EQ(world.info().log.history.size(), 3u);
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.info().log.history.size(), 3u);
  EXPECT_EQ(world.state(), "cancelled");
}

TEST(ArrayScrub, ALogThatCannotBeWrittenOrReadHarmsNothing) {
  ScrubWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_TRUE(world.all().ok());
  auto no_log = [](const io::IoRequest& request) {
    bool log =
        request.offset_bytes >= kScrubLogOffsetBytes && request.offset_bytes < kBitmapOffsetBytes;
    return log ? error(Code::k_io_error, "bad sectors") : Status();
  };
  for (auto& drive : world.drives) drive->fault = no_log;
  Result<ScrubRun> second = world.all();
  EXPECT_TRUE(second.ok()) << second.status().to_string();
  EXPECT_EQ(world.array->describe().state, "online");
  EXPECT_EQ(world.info().log.history.size(), 2u);
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.state(), "never");
  EXPECT_EQ(world.array->describe().state, "online");
  ASSERT_OK(world.stop());
  for (auto& drive : world.drives) drive->fault = nullptr;
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.info().log.history.size(), 1u);  // the one that was written
}

}  // namespace
}  // namespace bb::raid
