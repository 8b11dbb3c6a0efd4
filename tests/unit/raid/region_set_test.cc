// SPDX-License-Identifier: Apache-2.0
#include "raid/region_set.h"

#include <gtest/gtest.h>

#include "base/prng.h"

namespace bb::raid {
namespace {

constexpr uint64_t kRegions = 300;  // four words and a part of one

RegionSet random_set(Prng& prng) {
  RegionSet set(kRegions);
  for (uint64_t r = 0; r < kRegions; ++r) {
    if (prng.chance(2)) set.set(r);
  }
  return set;
}

// Region by region, as anybody would.
template <typename Expected>
void expect_range(const RegionSet& before, const RegionSet& after, uint64_t first, uint64_t count,
                  Expected expected) {
  uint64_t found = 0;
  for (uint64_t r = 0; r < kRegions; ++r) {
    bool inside = r >= first && r < first + count;
    ASSERT_EQ(after.test(r), inside ? expected(r) : before.test(r))
        << r << " of " << first << " + " << count;
    found += after.test(r) ? 1 : 0;
  }
  ASSERT_EQ(after.count(), found);
}

TEST(RegionSet, RangesChangeWhatLiesInThemAndNothingElse) {
  Prng prng(5);
  for (int i = 0; i < 2000; ++i) {
    uint64_t first = prng.below(kRegions + 1);
    uint64_t count = prng.below(kRegions - first + 1);
    RegionSet other = random_set(prng);
    RegionSet before = random_set(prng);
    auto check = [&](auto change, auto expected) {
      RegionSet after = before;
      change(after);
      expect_range(before, after, first, count, expected);
    };
    check([&](RegionSet& set) { set.set_range(first, count); }, [](uint64_t) { return true; });
    check([&](RegionSet& set) { set.clear_range(first, count); }, [](uint64_t) { return false; });
    check([&](RegionSet& set) { set.copy_range(other, first, count); },
          [&](uint64_t r) { return other.test(r); });
    check([&](RegionSet& set) { set.keep_range(other, first, count); },
          [&](uint64_t r) { return before.test(r) && other.test(r); });
    check([&](RegionSet& set) { set.add_range(other, first, count); },
          [&](uint64_t r) { return before.test(r) || other.test(r); });
  }
}

TEST(RegionSet, BitsOfAWordInTheirOrder) {
  RegionSet set(kRegions);
  set.set(64);
  set.set(127);
  set.set(299);
  EXPECT_EQ(set.bits_from(64), uint64_t{1} | uint64_t{1} << 63);
  EXPECT_EQ(set.bits_from(256), uint64_t{1} << 43);
}

}  // namespace
}  // namespace bb::raid
