// SPDX-License-Identifier: Apache-2.0
#include "base/histogram.h"

#include "base/check.h"

namespace bb {

static_assert(Histogram::bucket_of(Histogram::kValueMax) == Histogram::kBuckets - 1);
static_assert(Histogram::bucket_last(Histogram::kBuckets - 1) == Histogram::kValueMax);

void Histogram::allocate() { buckets_ = std::make_unique<Buckets>(); }

Histogram& Histogram::operator=(const Histogram& other) {
  if (this != &other) *this = Histogram(other);
  return *this;
}

void Histogram::merge(const Histogram& other) {
  if (other.buckets_ == nullptr) return;
  if (buckets_ == nullptr) allocate();
  for (size_t i = 0; i < kBuckets; ++i) (*buckets_)[i] += (*other.buckets_)[i];
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

Histogram Histogram::since(const Histogram& before) const {
  Histogram out;
  if (buckets_ == nullptr) return out;
  out.allocate();
  for (size_t i = 0; i < kBuckets; ++i) {
    uint64_t was = before.bucket(i);
    uint64_t now = (*buckets_)[i];
    // Less than before: the counting began anew in between, so all of it is new.
    (*out.buckets_)[i] = now >= was ? now - was : now;
    if ((*out.buckets_)[i] > 0) out.max_ = std::min(bucket_last(i), max_);
  }
  out.sum_ = sum_ >= before.sum_ ? sum_ - before.sum_ : sum_;
  return out;
}

uint64_t Histogram::count() const {
  if (buckets_ == nullptr) return 0;
  uint64_t total = 0;
  for (uint64_t each : *buckets_) total += each;
  return total;
}

uint64_t Histogram::quantile(double q) const {
  uint64_t total = count();
  if (total == 0) return 0;
  auto wanted = static_cast<uint64_t>(std::clamp(q, 0.0, 1.0) * static_cast<double>(total));
  if (wanted >= total) return max_;
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += (*buckets_)[i];
    if (seen > wanted) {
      uint64_t first = bucket_first(i);
      return std::min(first + (bucket_last(i) - first) / 2, max_);
    }
  }
  return max_;
}

uint64_t Histogram::count_to(uint64_t value) const {
  if (buckets_ == nullptr) return 0;
  uint64_t total = 0;
  for (size_t i = 0; i < kBuckets && bucket_last(i) <= value; ++i) total += (*buckets_)[i];
  return total;
}

void Histogram::add_bucket(size_t index, uint64_t count) {
  BB_CHECK(index < kBuckets, "bucket {} of {}", index, kBuckets);
  if (buckets_ == nullptr) allocate();
  (*buckets_)[index] += count;
}

void Histogram::set_totals(uint64_t sum, uint64_t max) {
  sum_ = sum;
  max_ = std::min(max, kValueMax);
}

}  // namespace bb
