// SPDX-License-Identifier: Apache-2.0
#include "raid/scrub_log.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "hex_page.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
constexpr uint64_t kCreated = 1'700'000'000'000'000'000;

ScrubLog sample() {
  ScrubLog log{.array = kArray, .created_wall_ns = kCreated, .generation = 9};
  log.open = ScrubRun{.state = ScrubState::kRunning,
                      .scheduled = true,
                      .begun_wall_ns = kCreated + 5,
                      .position_bytes = 3 * MiB,
                      .report = {.checked_bytes = 3 * MiB, .skipped_bytes = 64 * KiB}};
  log.open->report.add(8192, true);
  log.open->report.add(1 * MiB, false);
  log.history.push_back({.state = ScrubState::kDone,
                         .begun_wall_ns = kCreated + 1,
                         .ended_wall_ns = kCreated + 2,
                         .position_bytes = 64 * MiB,
                         .report = {.checked_bytes = 64 * MiB}});
  return log;
}

std::vector<std::byte> encoded(const ScrubLog& log) {
  std::vector<std::byte> page(kScrubLogBytes);
  encode_scrub_log(log, page);
  return page;
}

void seal(std::vector<std::byte>* page) {
  store_le<uint32_t>(&(*page)[8], 0);
  store_le<uint32_t>(&(*page)[8], crc32c(*page));
}

bool same(const ScrubLog& a, const ScrubLog& b) {
  return a.array == b.array && a.created_wall_ns == b.created_wall_ns &&
         a.generation == b.generation && a.open == b.open && a.history == b.history;
}

TEST(ScrubLog, TheExampleOfItsPageIsRead) {
  for (const auto& page : {encoded(sample()), hex_example("scrub-log.md", kScrubLogBytes)}) {
    Result<ScrubLog> log = decode_scrub_log(kArray, kCreated, page);
    ASSERT_TRUE(log.ok()) << log.status().to_string() << "\nthe page should show\n"
                          << hex_lines(encoded(sample()));
    EXPECT_TRUE(same(*log, sample())) << hex_lines(encoded(sample()));
  }
}

TEST(ScrubLog, WhatIsDamagedOrForeignIsNoHistory) {
  for (size_t bit = 0; bit < kScrubLogBytes * 8; bit += 7) {
    std::vector<std::byte> bad = encoded(sample());
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    Code wanted = bit < 32 ? Code::k_not_found : Code::k_corrupt;
    ASSERT_EQ(decode_scrub_log(kArray, kCreated, bad).code(), wanted) << bit;
  }
  std::vector<std::byte> page = encoded(sample());
  EXPECT_EQ(decode_scrub_log(Uuid(), kCreated, page).code(), Code::k_not_found);
  EXPECT_EQ(decode_scrub_log(kArray, kCreated + 1, page).code(), Code::k_not_found);
  EXPECT_EQ(decode_scrub_log(kArray, kCreated, std::vector<std::byte>(kScrubLogBytes)).code(),
            Code::k_not_found);
}

TEST(ScrubLog, ValuesOutsideTheirLimitsAreNamed) {
  struct {
    size_t at;
    uint32_t value;
    Code code;
    const char* text;
  } const cases[] = {
      {4, 2, Code::k_not_supported, "version 2, and 1 is known"},
      {64, 6, Code::k_corrupt, "run 0 has state 6 (max 5)"},
      {64, 3, Code::k_corrupt, "run 0 is done"},
      {64 + 448, 1, Code::k_corrupt, "run 1 is running"},
      {64 + 4, 49, Code::k_corrupt, "run 0 has 49 findings (max 48)"},
      {64 + 24, 5, Code::k_corrupt, "run 0 is at byte 5, not a multiple of 4096"},
      {64 + 64, 2, Code::k_corrupt, "finding 0 of run 0 is at byte 2"},
  };
  for (const auto& one : cases) {
    std::vector<std::byte> page = encoded(sample());
    store_le<uint32_t>(&page[one.at], one.value);
    seal(&page);
    Status status = decode_scrub_log(kArray, kCreated, page).status();
    EXPECT_EQ(status.code(), one.code) << one.text;
    EXPECT_NE(status.text().find(one.text), std::string::npos) << status.text();
  }
}

TEST(ScrubLog, HistoryAndFindingsAreBounded) {
  ScrubLog log{.array = kArray, .created_wall_ns = kCreated, .generation = 1};
  for (uint64_t i = 0; i < 20; ++i) {
    log.open = ScrubRun{.state = ScrubState::kRunning, .begun_wall_ns = i};
    for (uint64_t block = 0; block < 100; ++block) log.open->report.add(block * 4096, true);
    log.end(ScrubState::kCancelled, 100 + i);
  }
  Result<ScrubLog> back = decode_scrub_log(kArray, kCreated, encoded(log));
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_FALSE(back->open.has_value());
  ASSERT_EQ(back->history.size(), kScrubHistoryMax);
  for (size_t i = 0; i < kScrubHistoryMax; ++i) {
    EXPECT_EQ(back->history[i].begun_wall_ns, 19 - i);
    EXPECT_EQ(back->history[i].ended_wall_ns, 119 - i);
    EXPECT_EQ(back->history[i].state, ScrubState::kCancelled);
    EXPECT_EQ(back->history[i].report.repaired_blocks, 100u);
    ASSERT_EQ(back->history[i].report.findings.size(), kScrubLogFindingsMax);
    EXPECT_EQ(back->history[i].report.findings[47].offset_bytes, 47u * 4096);
  }
  log.end(ScrubState::kDone, 500);  // nothing is open
  EXPECT_EQ(log.history.front().ended_wall_ns, 119u);
}

TEST(ScrubLog, ReportsAddUp) {
  ScrubReport all, one;
  for (uint64_t i = 0; i < 600; ++i) one.add(i * 4096, i % 2 == 0);
  one.checked_bytes = 10;
  one.skipped_bytes = 3;
  all.add(one);
  all.add(one);
  EXPECT_EQ(all.checked_bytes, 20u);
  EXPECT_EQ(all.skipped_bytes, 6u);
  EXPECT_EQ(all.repaired_blocks, 600u);
  EXPECT_EQ(all.unrepaired_blocks, 600u);
  EXPECT_EQ(all.findings.size(), ScrubReport::kFindingsMax);
}

}  // namespace
}  // namespace bb::raid
