// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace bb {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr uint64_t power(uint64_t base, int exponent) {
  uint64_t value = 1;
  while (exponent-- > 0) value *= base;
  return value;
}

// Longest names first, so that "KiB" is not read as "K".
constexpr std::array kSizeUnits = {Unit{"KiB", power(1024, 1)},
                                   Unit{"MiB", power(1024, 2)},
                                   Unit{"GiB", power(1024, 3)},
                                   Unit{"TiB", power(1024, 4)},
                                   Unit{"PiB", power(1024, 5)},
                                   Unit{"KB", power(1000, 1)},
                                   Unit{"kB", power(1000, 1)},
                                   Unit{"MB", power(1000, 2)},
                                   Unit{"GB", power(1000, 3)},
                                   Unit{"TB", power(1000, 4)},
                                   Unit{"PB", power(1000, 5)},
                                   Unit{"K", power(1024, 1)},
                                   Unit{"M", power(1024, 2)},
                                   Unit{"G", power(1024, 3)},
                                   Unit{"T", power(1024, 4)},
                                   Unit{"P", power(1024, 5)},
                                   Unit{"B", 1},
                                   Unit{"", 1}};

constexpr std::array kTimeUnits = {
    Unit{"ns", 1},           Unit{"us", kNsPerUs},         Unit{"ms", kNsPerMs},
    Unit{"s", kNsPerSecond}, Unit{"m", 60 * kNsPerSecond}, Unit{"h", 3600 * kNsPerSecond},
    Unit{"", kNsPerSecond}};

// Digits with an optional fraction, then one of the units.
template <size_t N>
Result<uint64_t> parse_with_unit(std::string_view text, const std::array<Unit, N>& units,
                                 std::string_view what, std::string_view example) {
  auto bad = [&](std::string_view why) {
    return error(Code::k_invalid_argument, "\"{}\" is not a {}: {}; write for example {}",
                 text.substr(0, 64), what, why, example);
  };
  size_t digits = text.find_first_not_of("0123456789.");
  std::string_view number = text.substr(0, digits);
  std::string_view unit = digits == std::string_view::npos ? "" : text.substr(digits);
  if (number.empty() || number.front() == '.') return bad("no number in front");
  const auto* row =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == unit; });
  if (row == units.end()) return bad("unknown unit");
  uint64_t whole = 0;
  auto parsed = std::from_chars(number.data(), number.data() + number.size(), whole);
  if (parsed.ec != std::errc()) return bad("larger than 2^64 - 1");
  uint64_t value = 0;
  if (__builtin_mul_overflow(whole, row->factor, &value)) return bad("larger than 2^64 - 1");
  std::string_view rest(parsed.ptr,
                        static_cast<size_t>(number.data() + number.size() - parsed.ptr));
  if (rest.empty()) return value;
  double fraction = 0;
  auto fraction_parsed = std::from_chars(rest.data(), rest.data() + rest.size(), fraction);
  if (fraction_parsed.ec != std::errc() || fraction_parsed.ptr != rest.data() + rest.size() ||
      rest.size() < 2) {
    return bad("bad fraction");
  }
  auto extra = static_cast<uint64_t>(std::llround(fraction * static_cast<double>(row->factor)));
  if (__builtin_add_overflow(value, extra, &value)) return bad("larger than 2^64 - 1");
  return value;
}

std::string shortest_in(uint64_t bytes, uint64_t step,
                        const std::array<std::string_view, 6>& names) {
  size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (unit + 1 < names.size() && value >= static_cast<double>(step)) {
    value /= static_cast<double>(step);
    ++unit;
  }
  if (unit == 0) return fmt::format("{}{}", bytes, names[0]);
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text + std::string(names[unit]);
}

}  // namespace

Result<uint64_t> parse_size_bytes(std::string_view text) {
  return parse_with_unit(text, kSizeUnits, "size", "4096, 64KiB or 400GB");
}

Result<uint64_t> parse_duration_ns(std::string_view text) {
  return parse_with_unit(text, kTimeUnits, "duration", "250ms, 5s or 2m");
}

Result<uint64_t> parse_u64(std::string_view text, uint64_t max) {
  uint64_t value = 0;
  auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
    return error(Code::k_invalid_argument, "\"{}\" is not a whole number", text.substr(0, 64));
  }
  if (value > max) {
    return error(Code::k_invalid_argument, "{} is larger than the limit of {}", value, max);
  }
  return value;
}

std::string format_size_bytes(uint64_t bytes) {
  constexpr uint64_t kPiB = power(1024, 5);
  std::string binary = shortest_in(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
  std::string decimal = shortest_in(bytes, 1000, {"B", "KB", "MB", "GB", "TB", "PB"});
  // The unit's own extra letter must not decide: compare the digits.
  auto digits = [](const std::string& s) { return s.find_first_not_of("0123456789."); };
  // Rounded to 16384PiB the largest would be 2^64, which no size is.
  bool too_large = bytes > UINT64_MAX - kPiB / 100;
  return too_large || digits(decimal) < digits(binary) ? decimal : binary;
}

}  // namespace bb
