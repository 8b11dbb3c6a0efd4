// SPDX-License-Identifier: Apache-2.0
#include "raid/checksums.h"

#include <gtest/gtest.h>

#include "hex_page.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
const Uuid kMember = *Uuid::parse("0c9d2a41-88b7-4e0a-b6f3-15d7e2c46a90");
using Sums = std::array<uint32_t, kChecksumsPerPage>;

std::vector<std::byte> sample() {
  Sums sums{};
  sums[0] = 0xe3069283;
  sums[1] = zero_block_checksum();
  sums[1007] = 1;
  std::vector<std::byte> page(kChecksumPageBytes);
  encode_checksum_page({kArray, kMember, 5, 9}, sums, page);
  return page;
}

TEST(ChecksumPage, RoundTripAndTheDocumentIsTrue) {
  for (const auto& page : {sample(), hex_example("checksums.md", kChecksumPageBytes)}) {
    Sums sums;
    auto head = decode_checksum_page({kArray, kMember, 5}, page, sums);
    ASSERT_TRUE(head.ok()) << head.status().to_string() << "\nthe page should show\n"
                           << hex_lines(sample());
    EXPECT_EQ(head->generation, 9u);
    EXPECT_EQ(sums[0], 0xe3069283u);
    EXPECT_EQ(sums[1], 0x98f94189u);  // of 4096 zeroes
    EXPECT_EQ(sums[2], kNoChecksum);
    EXPECT_EQ(sums[1007], 1u);
  }
}

TEST(ChecksumPage, WhatIsDamagedOrForeignRecordsNothing) {
  Sums sums;
  for (size_t bit = 0; bit < kChecksumPageBytes * 8; bit += 7) {
    auto bad = sample();
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    sums.fill(7);
    Code code = decode_checksum_page({kArray, kMember, 5}, bad, sums).code();
    ASSERT_EQ(code, Code::k_corrupt) << bit;
    ASSERT_EQ(sums[0], kNoChecksum) << bit;
  }
  Status other = decode_checksum_page({kArray, kMember, 4}, sample(), sums).status();
  EXPECT_EQ(other.text(), "page 4 of checksums: it says it is page 5");
  other = decode_checksum_page({kArray, kArray, 5}, sample(), sums).status();
  EXPECT_EQ(other.text(), "page 5 of checksums: it belongs to another array or member");
  std::vector<std::byte> blank(kChecksumPageBytes);
  EXPECT_EQ(decode_checksum_page({kArray, kMember, 5}, blank, sums).code(), Code::k_not_found);
}

// Whichever copy was being written when the power went, the other one counts.
TEST(ChecksumPage, TheNewerValidCopyCounts) {
  Sums old_sums{};
  Sums new_sums{};
  old_sums[3] = 30;
  new_sums[3] = 31;
  new_sums[1000] = 32;
  std::vector<std::byte> both(2 * kChecksumPageBytes);
  Bytes first = Bytes(both).first(kChecksumPageBytes);
  Bytes second = Bytes(both).subspan(kChecksumPageBytes);
  ChecksumPageHead head{kArray, kMember, 5};
  EXPECT_EQ(choose_checksum_page(head, both).generation, 0u);  // never written
  EXPECT_FALSE(choose_checksum_page(head, both).damaged);
  encode_checksum_page({kArray, kMember, 5, 7}, old_sums, second);
  EXPECT_EQ(choose_checksum_page(head, both).sums[3], 30u);
  encode_checksum_page({kArray, kMember, 5, 8}, new_sums, first);
  EXPECT_EQ(choose_checksum_page(head, both).sums[3], 31u);
  EXPECT_FALSE(choose_checksum_page(head, both).damaged);
  std::ranges::fill(first.subspan(512), std::byte{0});  // torn
  FoundChecksums found = choose_checksum_page(head, both);
  EXPECT_TRUE(found.damaged);
  EXPECT_EQ(found.generation, 7u);
  EXPECT_EQ(found.sums[3], 30u);
  second[100] ^= std::byte{1};
  EXPECT_EQ(choose_checksum_page(head, both).sums[3], kNoChecksum);
}

TEST(Checksums, ComputesOverMemoryInPieces) {
  std::vector<std::byte> data(20 * kCheckedBlockBytes);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + i / 4096);
  for (size_t step : {512u, 1000u, 4096u, 10'000u, 100'000u}) {
    std::vector<iovec> parts;
    for (size_t at = 0; at < data.size(); at += step) {
      parts.push_back({.iov_base = &data[at], .iov_len = std::min(step, data.size() - at)});
    }
    BlockSums sums;
    sums.compute(parts);
    ASSERT_EQ(sums.values().size(), 20u);
    for (size_t i = 0; i < 20; ++i) {
      ConstBytes block = ConstBytes(data).subspan(i * kCheckedBlockBytes, kCheckedBlockBytes);
      EXPECT_EQ(sums.values()[i], block_checksum(block)) << step;
    }
  }
}

TEST(Checksums, PagesComeAreWrittenAndGo) {
  Checksums sums(3000);
  FoundChecksums blank;
  blank.sums.fill(kNoChecksum);
  EXPECT_EQ(sums.pages(), 3u);
  EXPECT_EQ(sums.missing(0, 3000), 0u);
  for (uint64_t page = 0; page < 3; ++page) sums.put(page, blank);
  EXPECT_EQ(sums.missing(0, 3000), 3u);
  sums.set(1008, 42);
  EXPECT_EQ(sums.at(1008), 42u);
  auto all = [](uint64_t) { return true; };
  EXPECT_TRUE(sums.take_dirty([](uint64_t page) { return page != 1; }).empty());
  EXPECT_EQ(sums.take_dirty(all), std::vector<uint64_t>{1});
  sums.set(1009, 43);  // while it is being written
  sums.written(1, true);
  EXPECT_TRUE(sums.dirty());
  EXPECT_EQ(sums.take_dirty(all), std::vector<uint64_t>{1});
  sums.written(1, false);
  EXPECT_EQ(sums.take_dirty(all), std::vector<uint64_t>{1});  // it failed: again
  EXPECT_FALSE(sums.evict());                                 // all have just been used
  EXPECT_TRUE(sums.evict());
  EXPECT_TRUE(sums.evict());
  EXPECT_FALSE(sums.evict());  // page 1 is still being written
  EXPECT_EQ(sums.resident(), 1u);
  EXPECT_EQ(sums.at(1009), 43u);
}

TEST(Checksums, WhatIsPinnedOrDirtyStays) {
  auto sums = std::make_shared<Checksums>(2016);
  FoundChecksums blank;
  blank.sums.fill(kNoChecksum);
  sums->put(0, blank);
  blank.damaged = true;
  sums->put(1, blank);
  {
    PinnedSums pinned;
    pinned.pin(sums, 0, 1008);
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(sums->evict());
  }
  EXPECT_FALSE(sums->evict());  // until now it was used
  EXPECT_TRUE(sums->evict());
  EXPECT_FALSE(sums->has(0));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(sums->evict());
}

}  // namespace
}  // namespace bb::raid
