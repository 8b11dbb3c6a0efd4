// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace bb {

inline constexpr uint64_t KiB = 1024;
inline constexpr uint64_t MiB = 1024 * KiB;
inline constexpr uint64_t GiB = 1024 * MiB;
inline constexpr uint64_t kNsPerUs = 1'000;
inline constexpr uint64_t kNsPerMs = 1'000'000;
inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

// "4096", "64K", "64KiB", "1.5GiB", "400GB" -> bytes. K/M/G/T/P alone are binary, KB … decimal.
Result<uint64_t> parse_size_bytes(std::string_view text);
// The shorter of binary or decimal units: 34359738368 -> "32GiB", 400000000000 -> "400GB".
std::string format_size_bytes(uint64_t bytes);
// "250ms", "5s", "2m", "1h" -> nanoseconds; a bare number is seconds.
Result<uint64_t> parse_duration_ns(std::string_view text);
Result<uint64_t> parse_u64(std::string_view text, uint64_t max = UINT64_MAX);

constexpr bool is_power_of_two(uint64_t x) { return x != 0 && (x & (x - 1)) == 0; }
constexpr uint64_t round_up(uint64_t x, uint64_t step) { return (x + step - 1) / step * step; }
constexpr uint64_t round_down(uint64_t x, uint64_t step) { return x / step * step; }
constexpr uint64_t div_up(uint64_t x, uint64_t step) { return (x + step - 1) / step; }

}  // namespace bb
