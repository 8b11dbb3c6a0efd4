// SPDX-License-Identifier: Apache-2.0
#include "raid/write_intent.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "raid/bitmap_page.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
const Geometry kTwoPages{.shape = *parse_shape("1.2", 0),
                         .member_bytes = (kRegionsPerPage + 64) * 64 * KiB,
                         .region_size_bytes = 64 * KiB};

TEST(WriteIntent, ABatchIsSharedAndLateBitsWaitForTheNext) {
  WriteIntent intent(kArray, kTwoPages);
  RegionRange a{5, 2}, b{9, 1}, far{kRegionsPerPage + 1, 1};
  intent.begin(a);
  intent.begin(far);
  EXPECT_FALSE(intent.durable(a));
  intent.request(a);
  intent.request(far);
  EXPECT_EQ(intent.batch_begin(), (std::vector<uint32_t>{0, 1}));
  intent.begin(b);
  intent.request(b);
  intent.request(a);  // in the batch already
  intent.batch_end(true);
  EXPECT_TRUE(intent.durable(a));
  EXPECT_TRUE(intent.durable(far));
  EXPECT_FALSE(intent.durable(b));
  EXPECT_TRUE(intent.batch_wanted());
  EXPECT_EQ(intent.batch_begin(), (std::vector<uint32_t>{0}));
  intent.batch_end(false);
  EXPECT_FALSE(intent.durable(b));
  EXPECT_TRUE(intent.durable(a));
  EXPECT_TRUE(intent.batch_wanted());
}

TEST(WriteIntent, ABitGoesOnlyAfterAFlushThatBeganAfterTheLastWrite) {
  WriteIntent intent(kArray, kTwoPages);
  RegionSet nothing(kTwoPages.regions());
  RegionRange a{5, 1};
  intent.begin(a);
  uint64_t early = intent.flush_begin();
  intent.end(a);
  EXPECT_EQ(intent.clean(early, nothing), 0u);  // began before the write ended
  uint64_t late = intent.flush_begin();
  intent.begin(a);
  EXPECT_EQ(intent.clean(late, nothing), 0u);  // in flight
  intent.end(a);
  EXPECT_EQ(intent.clean(late, nothing), 0u);  // ended after it began
  late = intent.flush_begin();
  RegionSet keep(kTwoPages.regions());
  keep.set(5);
  EXPECT_EQ(intent.clean(late, keep), 0u);
  EXPECT_EQ(intent.clean(late, nothing), 1u);
  EXPECT_TRUE(intent.dirty().empty());
  EXPECT_TRUE(intent.batch_wanted());
}

TEST(WriteIntent, ABitThatIsBeingClearedIsNotReliedOn) {
  WriteIntent intent(kArray, kTwoPages);
  RegionSet nothing(kTwoPages.regions());
  RegionRange a{5, 1};
  intent.begin(a);
  intent.request(a);
  intent.batch_begin();
  intent.batch_end(true);
  intent.end(a);
  intent.clean(intent.flush_begin(), nothing);
  EXPECT_TRUE(intent.durable(a));  // the members still have it
  intent.batch_begin();            // now perhaps not
  intent.begin(a);
  EXPECT_FALSE(intent.durable(a));
  intent.request(a);
  intent.batch_end(true);
  EXPECT_FALSE(intent.durable(a));
  EXPECT_TRUE(intent.batch_wanted());
}

// Against a model of a member: whatever is relied on is on the member at every moment, also when
// the batch under way has reached it or not.
TEST(WriteIntent, WhatIsReliedOnIsOnTheMember) {
  Prng prng(7);
  Geometry geometry{.shape = *parse_shape("1.2", 0),
                    .member_bytes = 40 * 64 * KiB,
                    .region_size_bytes = 64 * KiB};
  WriteIntent intent(kArray, geometry);
  RegionSet nothing(40), before(40), after(40);
  std::vector<RegionRange> writing;
  bool batch = false;
  for (int step = 0; step < 50000; ++step) {
    switch (prng.below(6)) {
      case 0: {
        uint64_t first = prng.below(38);
        writing.push_back({first, prng.between(1, 2)});
        intent.begin(writing.back());
        intent.request(writing.back());
        break;
      }
      case 1:
        if (writing.empty()) break;
        intent.end(writing.back());
        writing.pop_back();
        break;
      case 2:
        if (batch || !intent.batch_wanted()) break;
        batch = true;
        for (uint32_t page : intent.batch_begin()) {
          std::vector<std::byte> bytes(kBitmapPageBytes);
          intent.encode(page, bytes);
          after.clear_all();
          ASSERT_TRUE(decode_bitmap_page(kArray, page, bytes, after).ok());
        }
        break;
      case 3:
        if (!batch) break;
        batch = false;
        intent.batch_end(true);
        before = after;
        break;
      case 4:
        intent.clean(intent.flush_begin(), nothing);
        break;
      default:
        break;
    }
    for (uint64_t r = 0; r < 40; ++r) {
      if (!intent.durable({r, 1})) continue;
      ASSERT_TRUE(before.test(r) && (!batch || after.test(r))) << r << " at step " << step;
    }
  }
}

}  // namespace
}  // namespace bb::raid
