// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace bb {

// How often each value came, in buckets that grow with the value, so that one histogram holds
// nanoseconds and minutes: 16 buckets to each power of two, values below 32 exact. A quantile is
// the middle of its bucket, which is never more than 1/32 (3.1 %) of the true value away. Two
// histograms have the same buckets: merging is adding, and loses nothing.
//
// 4,736 bytes from the first value on, 24 before. Values are whatever unit the owner chose; those
// above kValueMax (18 minutes in nanoseconds) count as kValueMax.
class Histogram {
 public:
  static constexpr uint32_t kPrecisionBits = 4;
  static constexpr uint32_t kValueBits = 40;
  static constexpr uint64_t kValueMax = (uint64_t{1} << kValueBits) - 1;
  static constexpr size_t kBuckets = (kValueBits - kPrecisionBits + 1) << kPrecisionBits;

  Histogram() = default;
  Histogram(const Histogram& other) { merge(other); }
  Histogram(Histogram&& other) noexcept = default;
  Histogram& operator=(const Histogram& other);
  Histogram& operator=(Histogram&& other) noexcept = default;

  void record(uint64_t value, uint64_t count = 1) {
    if (buckets_ == nullptr) [[unlikely]]
      allocate();
    value = std::min(value, kValueMax);
    (*buckets_)[bucket_of(value)] += count;
    sum_ += value * count;
    max_ = std::max(max_, value);
  }
  void merge(const Histogram& other);
  // What came since `before`, an older state of this one. The maximum of that time is not known: it
  // is the upper end of the highest bucket in use, or max() when that is less.
  Histogram since(const Histogram& before) const;

  bool empty() const { return buckets_ == nullptr; }
  uint64_t count() const;
  uint64_t sum() const { return sum_; }
  uint64_t max() const { return max_; }
  // The value that `q` (0 to 1) of the values do not exceed, within the error above and never more
  // than max(); 0 when there are none.
  uint64_t quantile(double q) const;
  uint64_t count_to(uint64_t value) const;  // in buckets that end at `value` or before

  uint64_t bucket(size_t index) const { return buckets_ == nullptr ? 0 : (*buckets_)[index]; }
  static constexpr size_t bucket_of(uint64_t value) {
    if (value < (uint64_t{1} << kPrecisionBits)) return static_cast<size_t>(value);
    auto shift = static_cast<uint32_t>(std::bit_width(value)) - 1 - kPrecisionBits;
    return static_cast<size_t>((uint64_t{shift} << kPrecisionBits) + (value >> shift));
  }
  static constexpr uint64_t bucket_first(size_t index) {
    if (index < (size_t{2} << kPrecisionBits)) return index;
    size_t shift = (index >> kPrecisionBits) - 1;
    return (index - (shift << kPrecisionBits)) << shift;
  }
  static constexpr uint64_t bucket_last(size_t index) { return bucket_first(index + 1) - 1; }

  // Puts together what was taken apart: `count` values of a bucket; then sum and maximum.
  void add_bucket(size_t index, uint64_t count);
  void set_totals(uint64_t sum, uint64_t max);

 private:
  using Buckets = std::array<uint64_t, kBuckets>;
  void allocate();

  std::unique_ptr<Buckets> buckets_;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace bb
