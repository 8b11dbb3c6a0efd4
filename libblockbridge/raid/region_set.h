// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace bb::raid {

// A set of regions of an array, one bit each, with its size known.
class RegionSet {
 public:
  explicit RegionSet(uint64_t regions = 0) : regions_(regions), words_((regions + 63) / 64) {}

  uint64_t regions() const { return regions_; }
  uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }

  bool test(uint64_t region) const { return (word(region) >> (region % 64)) & 1; }
  bool set(uint64_t region) {  // true when it was not there
    uint64_t& bits = word(region);
    uint64_t bit = uint64_t{1} << (region % 64);
    if (bits & bit) return false;
    bits |= bit;
    ++count_;
    return true;
  }
  bool clear(uint64_t region) {  // true when it was there
    uint64_t& bits = word(region);
    uint64_t bit = uint64_t{1} << (region % 64);
    if (!(bits & bit)) return false;
    bits &= ~bit;
    --count_;
    return true;
  }
  void set_range(uint64_t first, uint64_t count) {
    for (uint64_t region = first; region < first + count; ++region) set(region);
  }
  void clear_range(uint64_t first, uint64_t count) {
    for (uint64_t region = first; region < first + count; ++region) clear(region);
  }
  bool any_in(uint64_t first, uint64_t count) const {
    if (count_ == 0) return false;
    uint64_t found = next(first);
    return found < first + count;
  }
  void set_all() { set_range(0, regions_); }
  void clear_all() {
    words_.assign(words_.size(), 0);
    count_ = 0;
  }
  void add(const RegionSet& other) {
    BB_CHECK(regions_ == other.regions_, "{} regions and {}", regions_, other.regions_);
    count_ = 0;
    for (size_t i = 0; i < words_.size(); ++i) {
      words_[i] |= other.words_[i];
      count_ += static_cast<uint64_t>(std::popcount(words_[i]));
    }
  }

  // The first member at or after `region`; regions() when there is none.
  uint64_t next(uint64_t region) const {
    if (region >= regions_) return regions_;
    size_t i = region / 64;
    uint64_t bits = words_[i] & (~uint64_t{0} << (region % 64));
    while (bits == 0) {
      if (++i == words_.size()) return regions_;
      bits = words_[i];
    }
    return i * 64 + static_cast<uint64_t>(std::countr_zero(bits));
  }

 private:
  const uint64_t& word(uint64_t region) const {
    BB_CHECK(region < regions_, "region {} of {}", region, regions_);
    return words_[region / 64];
  }
  uint64_t& word(uint64_t region) {
    BB_CHECK(region < regions_, "region {} of {}", region, regions_);
    return words_[region / 64];
  }

  uint64_t regions_;
  uint64_t count_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace bb::raid
