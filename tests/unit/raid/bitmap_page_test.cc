// SPDX-License-Identifier: Apache-2.0
#include "raid/bitmap_page.h"

#include <gtest/gtest.h>

#include "hex_page.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");

std::vector<std::byte> sample() {
  RegionSet dirty(kRegionsPerPage + 100);
  dirty.set(3);  // of page 0: must not appear
  dirty.set(kRegionsPerPage + 0);
  dirty.set(kRegionsPerPage + 9);
  dirty.set(kRegionsPerPage + 99);
  std::vector<std::byte> page(kBitmapPageBytes);
  encode_bitmap_page({.array = kArray, .page = 1, .generation = 7}, dirty, page);
  return page;
}

TEST(BitmapPage, RoundTripAndTheDocumentIsTrue) {
  for (const auto& page : {sample(), hex_example("bitmap.md", kBitmapPageBytes)}) {
    RegionSet dirty(kRegionsPerPage + 100);
    auto head = decode_bitmap_page(kArray, 1, page, dirty);
    ASSERT_TRUE(head.ok()) << head.status().to_string() << "\nthe page should show\n"
                           << hex_lines(sample());
    EXPECT_EQ(head->generation, 7u);
    EXPECT_EQ(dirty.count(), 3u);
    EXPECT_TRUE(dirty.test(kRegionsPerPage));
    EXPECT_TRUE(dirty.test(kRegionsPerPage + 9));
    EXPECT_TRUE(dirty.test(kRegionsPerPage + 99));
  }
}

TEST(BitmapPage, BitsBehindTheLastRegionAreNone) {
  RegionSet fewer(kRegionsPerPage + 97);  // one bit into a byte
  ASSERT_TRUE(decode_bitmap_page(kArray, 1, sample(), fewer).ok());
  EXPECT_EQ(fewer.count(), 2u);
}

TEST(BitmapPage, ADamagedOrForeignPageAddsNothing) {
  RegionSet dirty(kRegionsPerPage + 100);
  for (size_t bit = 0; bit < kBitmapPageBytes * 8; bit += 7) {
    auto bad = sample();
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    ASSERT_EQ(decode_bitmap_page(kArray, 1, bad, dirty).code(), Code::k_corrupt) << bit;
  }
  EXPECT_EQ(decode_bitmap_page(kArray, 0, sample(), dirty).status().text(),
            "bitmap page 0: it says it is page 1");
  EXPECT_FALSE(decode_bitmap_page(Uuid{}, 1, sample(), dirty).ok());
  EXPECT_TRUE(dirty.empty());
  mark_page_dirty(1, dirty);
  EXPECT_EQ(dirty.count(), 100u);
}

}  // namespace
}  // namespace bb::raid
