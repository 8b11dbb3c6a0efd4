// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <gtest/gtest.h>

namespace bb {
namespace {

TEST(Units, ParsesSizes) {
  struct Case {
    std::string_view text;
    uint64_t bytes;
  };
  for (Case c : {Case{"0", 0},
                 {"4096", 4096},
                 {"64K", 64 * KiB},
                 {"64KiB", 64 * KiB},
                 {"1.5GiB", 3 * GiB / 2},
                 {"400GB", 400'000'000'000},
                 {"2MB", 2'000'000},
                 {"7B", 7},
                 {"1T", 1024 * GiB},
                 {"0.5K", 512},
                 {"18446744073709551615", UINT64_MAX}}) {
    auto got = parse_size_bytes(c.text);
    ASSERT_TRUE(got.ok()) << c.text << ": " << got.status().to_string();
    EXPECT_EQ(*got, c.bytes) << c.text;
  }
}

TEST(Units, RefusesWhatIsNoSize) {
  struct Case {
    std::string_view text;
    std::string_view why;
  };
  for (Case c : {Case{"", "no number in front"},
                 {"K", "no number in front"},
                 {".5K", "no number in front"},
                 {"-1", "no number in front"},
                 {"1.", "bad fraction"},
                 {"1.2.3", "bad fraction"},
                 {"1 K", "unknown unit"},
                 {"1e3", "unknown unit"},
                 {"1kib", "unknown unit"},
                 {"18446744073709551616", "larger than 2^64 - 1"},
                 {"16777216T", "larger than 2^64 - 1"}}) {
    auto got = parse_size_bytes(c.text);
    ASSERT_FALSE(got.ok()) << c.text;
    EXPECT_EQ(got.code(), Code::k_invalid_argument);
    EXPECT_NE(got.status().text().find(c.why), std::string::npos) << got.status().to_string();
  }
}

TEST(Units, FormatsSizesInTheShorterUnit) {
  EXPECT_EQ(format_size_bytes(0), "0B");
  EXPECT_EQ(format_size_bytes(512), "512B");
  EXPECT_EQ(format_size_bytes(32 * GiB), "32GiB");
  EXPECT_EQ(format_size_bytes(400'000'000'000), "400GB");
  EXPECT_EQ(format_size_bytes(3 * MiB / 2), "1.5MiB");
}

TEST(Units, FormatsTheLargestSizeAsOneThatCanBeRead) {
  EXPECT_EQ(format_size_bytes(UINT64_MAX), "18446.74PB");  // 16384PiB would be 2^64
  EXPECT_EQ(format_size_bytes(uint64_t{1} << 63), "8192PiB");
  for (int below = 0; below < 64; ++below) {
    uint64_t bytes = UINT64_MAX - (uint64_t{1} << below);
    EXPECT_TRUE(parse_size_bytes(format_size_bytes(bytes)).ok()) << bytes;
  }
}

TEST(Units, ParsesDurations) {
  EXPECT_EQ(*parse_duration_ns("250ms"), 250 * kNsPerMs);
  EXPECT_EQ(*parse_duration_ns("5"), 5 * kNsPerSecond);
  EXPECT_EQ(*parse_duration_ns("1.5s"), 1500 * kNsPerMs);
  EXPECT_EQ(*parse_duration_ns("2m"), 120 * kNsPerSecond);
  EXPECT_EQ(*parse_duration_ns("1h"), 3600 * kNsPerSecond);
  EXPECT_EQ(*parse_duration_ns("7us"), 7000u);
  EXPECT_EQ(parse_duration_ns("5d").code(), Code::k_invalid_argument);
}

TEST(Units, ParsesWholeNumbersUpToALimit) {
  EXPECT_EQ(*parse_u64("65535", 65535), 65535u);
  EXPECT_EQ(parse_u64("65536", 65535).status().text(), "65536 is larger than the limit of 65535");
  for (std::string_view bad : {"", "-1", "1x", " 1", "0x10", "99999999999999999999"}) {
    EXPECT_EQ(parse_u64(bad).code(), Code::k_invalid_argument) << bad;
  }
}

TEST(Units, Rounds) {
  EXPECT_EQ(round_up(1, 4096), 4096u);
  EXPECT_EQ(round_up(4096, 4096), 4096u);
  EXPECT_EQ(round_down(4097, 4096), 4096u);
  EXPECT_EQ(div_up(4097, 4096), 2u);
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_TRUE(is_power_of_two(4096));
  EXPECT_FALSE(is_power_of_two(4097));
}

}  // namespace
}  // namespace bb
