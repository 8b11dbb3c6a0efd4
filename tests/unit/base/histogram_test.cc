// SPDX-License-Identifier: Apache-2.0
#include "base/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/prng.h"

namespace bb {
namespace {

TEST(Histogram, BucketsCoverEveryValueOnceAndInOrder) {
  EXPECT_EQ(Histogram::bucket_first(0), 0u);
  for (size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    uint64_t first = Histogram::bucket_first(i);
    uint64_t last = Histogram::bucket_last(i);
    ASSERT_LE(first, last) << i;
    ASSERT_EQ(last + 1, Histogram::bucket_first(i + 1)) << i;
    for (uint64_t value : {first, first + (last - first) / 2, last}) {
      ASSERT_EQ(Histogram::bucket_of(value), i) << value;
    }
    // The stated error: half a bucket is no more than 1/32 of the smallest value in it.
    ASSERT_LE((last - first) / 2 * 32, first) << i;
  }
  EXPECT_EQ(Histogram::bucket_last(Histogram::kBuckets - 1), Histogram::kValueMax);
}

struct Row {
  uint64_t value;
  size_t bucket;
};
class HistogramTable : public testing::TestWithParam<Row> {};
TEST_P(HistogramTable, Bucket) {
  EXPECT_EQ(Histogram::bucket_of(GetParam().value), GetParam().bucket);
}
INSTANTIATE_TEST_SUITE_P(Values, HistogramTable,
                         testing::Values(Row{0, 0}, Row{1, 1}, Row{15, 15}, Row{16, 16},
                                         Row{31, 31}, Row{32, 32}, Row{33, 32}, Row{34, 33},
                                         Row{63, 47}, Row{64, 48}, Row{1000, 111}));

// Latencies as they are: many orders of magnitude, some repeated, some tiny.
std::vector<uint64_t> some_values(Prng& prng, size_t count) {
  std::vector<uint64_t> values;
  for (size_t i = 0; i < count; ++i) {
    uint64_t bits = prng.below(Histogram::kValueBits + 1);
    values.push_back(prng.next() & ((uint64_t{1} << bits) - 1));
  }
  return values;
}

TEST(Histogram, QuantilesAreWithinTheStatedError) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    Prng prng(seed);
    std::vector<uint64_t> values = some_values(prng, 1 + prng.below(500));
    Histogram histogram;
    for (uint64_t value : values) histogram.record(value);
    std::sort(values.begin(), values.end());
    for (double q : {0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      auto rank = static_cast<size_t>(q * static_cast<double>(values.size()));
      uint64_t truth = values[std::min(rank, values.size() - 1)];
      uint64_t told = histogram.quantile(q);
      uint64_t off = told > truth ? told - truth : truth - told;
      ASSERT_LE(off, truth / 32) << "seed " << seed << " q " << q << " truth " << truth;
      ASSERT_LE(told, histogram.max());
    }
    ASSERT_EQ(histogram.max(), values.back());
    ASSERT_EQ(histogram.count(), values.size());
  }
}

void expect_equal(const Histogram& a, const Histogram& b) {
  for (size_t i = 0; i < Histogram::kBuckets; ++i) ASSERT_EQ(a.bucket(i), b.bucket(i)) << i;
  EXPECT_EQ(a.sum(), b.sum());
  EXPECT_EQ(a.max(), b.max());
}

TEST(Histogram, MergingIsRecordingTheUnion) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Prng prng(seed);
    Histogram together;
    std::vector<Histogram> parts(1 + prng.below(5));
    for (Histogram& part : parts) {
      for (uint64_t value : some_values(prng, prng.below(200))) {
        part.record(value);
        together.record(value);
      }
    }
    Histogram merged;
    for (const Histogram& part : parts) merged.merge(part);
    expect_equal(merged, together);
  }
}

TEST(Histogram, SinceGivesBackWhatWasRecordedInBetween) {
  Prng prng(7);
  Histogram all;
  for (uint64_t value : some_values(prng, 100)) all.record(value);
  Histogram before = all;
  Histogram between;
  for (uint64_t value : some_values(prng, 100)) {
    all.record(value);
    between.record(value);
  }
  Histogram told = all.since(before);
  for (size_t i = 0; i < Histogram::kBuckets; ++i) ASSERT_EQ(told.bucket(i), between.bucket(i));
  EXPECT_EQ(told.sum(), between.sum());
  EXPECT_GE(told.max(), between.max());
  EXPECT_EQ(all.since(all).count(), 0u);
}

TEST(Histogram, SinceSurvivesACounterThatBeganAnew) {
  Histogram old_process;
  for (int i = 0; i < 100; ++i) old_process.record(1000);
  Histogram young;
  young.record(1000);
  EXPECT_EQ(young.since(old_process).count(), 1u);
}

TEST(Histogram, AnEmptyOneHoldsNothingAndSaysZero) {
  Histogram empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.count() + empty.quantile(0.5) + empty.max() + empty.count_to(1000), 0u);
  Histogram other;
  other.merge(empty);
  EXPECT_TRUE(other.empty());  // costs no memory either
  EXPECT_LE(sizeof(Histogram), 24u);
}

TEST(Histogram, ValuesAboveTheLimitCountAsTheLimit) {
  Histogram histogram;
  histogram.record(UINT64_MAX);
  EXPECT_EQ(histogram.max(), Histogram::kValueMax);
  EXPECT_EQ(histogram.quantile(0.5),
            Histogram::bucket_first(Histogram::kBuckets - 1) +
                (Histogram::kValueMax - Histogram::bucket_first(Histogram::kBuckets - 1)) / 2);
}

TEST(Histogram, CountToIsExactAtTheEndsOfBuckets) {
  Prng prng(3);
  std::vector<uint64_t> values = some_values(prng, 300);
  Histogram histogram;
  for (uint64_t value : values) histogram.record(value);
  for (uint32_t bits = 0; bits <= Histogram::kValueBits; ++bits) {
    uint64_t end = (uint64_t{1} << bits) - 1;  // an end of a bucket at every power of two
    auto truth = std::count_if(values.begin(), values.end(), [&](uint64_t v) { return v <= end; });
    EXPECT_EQ(histogram.count_to(end), static_cast<uint64_t>(truth)) << bits;
  }
}

TEST(Histogram, PutTogetherFromItsBucketsItIsTheSame) {
  Prng prng(5);
  Histogram histogram;
  for (uint64_t value : some_values(prng, 300)) histogram.record(value);
  Histogram copy;
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    if (histogram.bucket(i) > 0) {
      copy.add_bucket(Histogram::bucket_of(Histogram::bucket_first(i)), histogram.bucket(i));
    }
  }
  copy.set_totals(histogram.sum(), histogram.max());
  expect_equal(copy, histogram);
}

}  // namespace
}  // namespace bb
