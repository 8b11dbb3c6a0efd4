// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <algorithm>
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
    change(first, count, [](uint64_t bits, uint64_t mask, size_t) { return bits | mask; });
  }
  void clear_range(uint64_t first, uint64_t count) {
    change(first, count, [](uint64_t bits, uint64_t mask, size_t) { return bits & ~mask; });
  }
  // Of these regions: exactly those that the other set has; none that it has not; those, too.
  void copy_range(const RegionSet& other, uint64_t first, uint64_t count) {
    change(first, count, [&other](uint64_t bits, uint64_t mask, size_t i) {
      return (bits & ~mask) | (other.words_[i] & mask);
    });
  }
  void keep_range(const RegionSet& other, uint64_t first, uint64_t count) {
    change(first, count, [&other](uint64_t bits, uint64_t mask, size_t i) {
      return bits & (~mask | other.words_[i]);
    });
  }
  void add_range(const RegionSet& other, uint64_t first, uint64_t count) {
    change(first, count, [&other](uint64_t bits, uint64_t mask, size_t i) {
      return bits | (other.words_[i] & mask);
    });
  }
  // A bit each for this region, a multiple of 64, and those that follow it.
  uint64_t bits_from(uint64_t region) const { return word(region); }
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
  // Word by word: a page of the bitmap has thousands of regions, and is written all the time.
  template <typename Change>
  void change(uint64_t first, uint64_t count, Change changed) {
    uint64_t end = first + count;
    BB_CHECK(end <= regions_, "regions up to {} of {}", end, regions_);
    while (first < end) {
      uint64_t& bits = words_[first / 64];
      uint64_t here = std::min(end - first, 64 - first % 64);
      uint64_t mask = (~uint64_t{0} >> (64 - here)) << (first % 64);
      uint64_t next = changed(bits, mask, first / 64);
      count_ += static_cast<uint64_t>(std::popcount(next));
      count_ -= static_cast<uint64_t>(std::popcount(bits));
      bits = next;
      first += here;
    }
  }

  uint64_t regions_;
  uint64_t count_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace bb::raid
