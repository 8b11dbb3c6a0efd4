// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_map.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "hex_page.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
const Uuid kLife = *Uuid::parse("f2a8c6e0-1b34-4c5d-8e9f-a0b1c2d3e4f5");

std::vector<std::byte> sample() {
  std::vector<std::byte> page(kStripePageBytes);
  const uint32_t rows[] = {1100, 1009, 7};
  encode_stripe_page({.array = kArray, .page = 1, .generation = 5, .life = kLife, .first_seq = 77},
                     rows, page);
  return page;
}

TEST(StripePage, RoundTripAndTheDocumentIsTrue) {
  for (const auto& page : {sample(), hex_example("stripe-map.md", kStripePageBytes)}) {
    std::vector<uint32_t> rows(3);
    auto head = decode_stripe_page(kArray, 1, page, 1101, rows);
    ASSERT_TRUE(head.ok()) << head.status().to_string() << "\nthe page should show\n"
                           << hex_lines(sample());
    EXPECT_EQ(head->generation, 5u);
    EXPECT_EQ(head->life, kLife);
    EXPECT_EQ(head->first_seq, 77u);
    EXPECT_EQ(rows, (std::vector<uint32_t>{1100, 1009, 7}));
  }
}

TEST(StripePage, ADamagedOrForeignPageSaysNothing) {
  std::vector<uint32_t> rows = {1, 2, 3};
  for (size_t bit = 0; bit < kStripePageBytes * 8; bit += 7) {
    auto bad = sample();
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    ASSERT_EQ(decode_stripe_page(kArray, 1, bad, 1101, rows).code(), Code::k_corrupt) << bit;
  }
  EXPECT_EQ(decode_stripe_page(kArray, 0, sample(), 1101, rows).status().text(),
            "stripe map page 0: it says it is page 1");
  EXPECT_FALSE(decode_stripe_page(Uuid{}, 1, sample(), 1101, rows).ok());
  EXPECT_EQ(decode_stripe_page(kArray, 1, sample(), 1100, rows).status().text(),
            "stripe map page 1: row 1100 of 1100");
  EXPECT_EQ(rows, (std::vector<uint32_t>{1, 2, 3}));
}

TEST(StripePage, CopiesInTurn) {
  EXPECT_EQ(stripe_page_offset_bytes(0, 0), 0u);
  EXPECT_EQ(stripe_page_offset_bytes(0, 1), 4096u);
  EXPECT_EQ(stripe_page_offset_bytes(3, 8), 6u * 4096);
}

TEST(StripeMap, ARowIsFreeOnlyWhenEveryPageSaysSo) {
  StripeMap map(kArray, 4, 6);
  EXPECT_EQ(map.free_rows(), 2u);
  uint32_t row = *map.take_row(0);
  EXPECT_EQ(row, 4u);
  map.move(2, row);
  EXPECT_EQ(map.row_of(2), 4u);
  EXPECT_EQ(map.stripe_in(4), 2u);
  EXPECT_EQ(map.stripe_in(2), kNoStripe);
  EXPECT_EQ(map.free_rows(), 1u);
  ASSERT_TRUE(map.batch_wanted());
  ASSERT_EQ(map.batch_begin(), std::vector<uint32_t>{0});
  map.move(1, *map.take_row(0));  // meanwhile: of the next batch
  map.batch_end(true);
  EXPECT_EQ(map.free_rows(), 1u);
  EXPECT_EQ(*map.take_row(0), 2u);
  EXPECT_FALSE(map.take_row(0).has_value());
  ASSERT_TRUE(map.batch_wanted());
  map.batch_begin();
  map.batch_end(false);  // nobody knows which members have it
  EXPECT_EQ(map.free_rows(), 0u);
  ASSERT_TRUE(map.batch_wanted());
  map.batch_begin();
  map.batch_end(true);
  EXPECT_EQ(map.free_rows(), 1u);
  map.give_back(2);
  EXPECT_EQ(map.free_rows(), 2u);
}

TEST(StripeMap, APageShowsWhatHadMovedWhenItsBatchBegan) {
  StripeMap map(kArray, 4, 7);
  map.move(0, *map.take_row(0));
  map.batch_begin();
  map.move(0, *map.take_row(0));
  std::vector<std::byte> page(kStripePageBytes);
  map.encode(0, kLife, 9, page);
  std::vector<uint32_t> rows(4);
  ASSERT_TRUE(decode_stripe_page(kArray, 0, page, 7, rows).ok());
  EXPECT_EQ(rows, (std::vector<uint32_t>{4, 1, 2, 3}));
  EXPECT_EQ(map.row_of(0), 5u);
}

// Two members, pages written to each in turn, a stop at any moment: whatever is found, in any
// order, names rows that nothing was written to since.
TEST(StripeMap, WhateverPagesAreFoundNameRowsThatAreWhole) {
  constexpr uint32_t kStripes = 5;
  constexpr uint32_t kRows = 8;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Prng prng(seed);
    StripeMap map(kArray, kStripes, kRows);
    std::vector<uint32_t> content(kRows);  // version of what was last written to a row
    for (uint32_t row = 0; row < kRows; ++row) content[row] = row;
    std::vector<uint32_t> durable(kStripes);  // versions a flush has promised
    for (uint32_t i = 0; i < kStripes; ++i) durable[i] = i;
    std::vector<std::byte> disk[2];
    for (auto& one : disk) one.resize(2 * kStripePageBytes);
    uint32_t version = 100;
    uint64_t stop = prng.next() % 40;
    bool stopped = false;
    for (uint64_t step = 0; !stopped; ++step) {
      std::optional<uint32_t> row = map.take_row(static_cast<uint32_t>(prng.next() % kRows));
      if (row && prng.next() % 4 != 0) {
        content[*row] = version++;
        map.move(prng.next() % kStripes, *row);
        continue;
      }
      if (row) map.give_back(*row);
      std::vector<uint32_t> now(kStripes);
      for (uint32_t i = 0; i < kStripes; ++i) now[i] = content[map.row_of(i)];
      if (!map.batch_wanted()) continue;
      map.batch_begin();
      std::vector<std::byte> page(kStripePageBytes);
      auto head = map.encode(0, kLife, 1, page);
      for (auto& one : disk) {
        stopped = step >= stop && prng.next() % 3 == 0;
        size_t part = stopped ? prng.next() % kStripePageBytes : kStripePageBytes;
        std::copy_n(
            page.begin(), part,
            one.begin() + static_cast<ptrdiff_t>(stripe_page_offset_bytes(0, head.generation)));
        if (stopped) break;
      }
      if (stopped) break;
      map.batch_end(true);
      durable = now;
    }
    StripeMap found(kArray, kStripes, kRows);
    for (const auto& one : disk) {
      for (uint64_t copy = 0; copy < 2; ++copy) {
        std::vector<uint32_t> rows(kStripes);
        ConstBytes bytes = ConstBytes(one).subspan(copy * kStripePageBytes, kStripePageBytes);
        auto head = decode_stripe_page(kArray, 0, bytes, kRows, rows);
        if (head.ok()) found.adopt(*head, rows);
      }
    }
    ASSERT_TRUE(found.settle().ok());
    for (uint32_t i = 0; i < kStripes; ++i) {
      uint32_t has = content[found.row_of(i)];
      bool old = has == durable[i];
      bool fresh = has == content[map.row_of(i)];
      ASSERT_TRUE(old || fresh) << "seed " << seed << " stripe " << i;
    }
  }
}

TEST(StripeMap, TwoStripesInOneRowAreCorrupt) {
  StripeMap map(kArray, 3, 5);
  const uint32_t rows[] = {1, 1, 2};
  map.adopt({.array = kArray, .page = 0, .generation = 3}, rows);
  Status status = map.settle();
  EXPECT_EQ(status.code(), Code::k_corrupt);
  EXPECT_EQ(status.text(), "stripe map: stripes 0 and 1 lie in row 1");
}

}  // namespace
}  // namespace bb::raid
