// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_plan.h"

#include <gtest/gtest.h>

#include <bit>

#include "base/prng.h"
#include "io/buffer.h"

namespace bb::raid {
namespace {

constexpr uint32_t kChunk = 4096;

Shape shape_of(std::string_view text) { return *parse_shape(text, kChunk); }

TEST(StripePlan, BlocksAndSlotsOfARow) {
  Shape shape = shape_of("6.5");
  for (uint64_t row = 0; row < 10; ++row) {
    uint64_t seen = 0;
    for (uint32_t block = 0; block < 5; ++block) {
      uint64_t slot = uint64_t{1} << block_slot(shape, row, block);
      EXPECT_EQ(slots_of_blocks(shape, row, uint64_t{1} << block), slot);
      EXPECT_EQ(blocks_of_slots(shape, row, slot), uint64_t{1} << block);
      seen |= slot;
    }
    EXPECT_EQ(seen, 0b11111u);
  }
}

// Each byte of the write is in one band, and no other byte is.
TEST(StripePlan, BandsCoverTheWriteAndNothingElse) {
  for (const char* text : {"5.3", "5.5", "6.4"}) {
    Shape shape = shape_of(text);
    uint64_t stripe = uint64_t{kChunk} * shape.data_chunks();
    for (uint64_t offset = 0; offset < stripe; offset += 512) {
      for (uint64_t length = 512; offset + length <= stripe; length += 512) {
        std::vector<int> times(stripe / 512);
        std::vector<Band> bands = bands_of(shape, offset, length);
        ASSERT_LE(bands.size(), 3u);
        for (const Band& band : bands) {
          for (uint32_t at = band.within_bytes; at < band.within_bytes + band.length_bytes;
               at += 512) {
            for (uint32_t block = 0; block < shape.data_chunks(); ++block) {
              if ((band.written_mask >> block & 1) != 0) ++times[(block * kChunk + at) / 512];
            }
          }
        }
        for (uint64_t at = 0; at < stripe; at += 512) {
          bool wanted = at >= offset && at < offset + length;
          ASSERT_EQ(times[at / 512], wanted ? 1 : 0) << text << " " << offset << "+" << length;
        }
      }
    }
    EXPECT_EQ(bands_of(shape, 0, stripe).size(), 1u);
  }
}

TEST(StripePlan, ReadsTheLess) {
  Shape wide = shape_of("5.9");
  BandPlan one = plan_band(wide, {0, kChunk, 0b1}, 0);
  EXPECT_EQ(one.mode, BandMode::kModify);
  EXPECT_EQ(one.read_mask, 0b1'0000'0001u);
  EXPECT_EQ(one.change_mask, 0b1'0000'0001u);
  BandPlan most = plan_band(wide, {0, kChunk, 0b0111'1111}, 0);
  EXPECT_EQ(most.mode, BandMode::kReconstruct);
  EXPECT_EQ(most.read_mask, 0b1000'0000u);
  BandPlan all = plan_band(wide, {0, kChunk, 0b1111'1111}, 0);
  EXPECT_EQ(all.read_mask, 0u);
  BandPlan away = plan_band(wide, {0, kChunk, 0b1}, 0b1);  // it lives in the parity alone
  EXPECT_EQ(away.mode, BandMode::kReconstruct);
  EXPECT_EQ(away.change_mask, 0b1'0000'0000u);
  BandPlan no_parity = plan_band(wide, {0, kChunk, 0b1}, 0b1'0000'0000);
  EXPECT_EQ(no_parity.read_mask, 0u);
  EXPECT_EQ(no_parity.change_mask, 0b1u);
}

// A row in memory: all blocks, as they would be if nobody were away.
struct Row {
  Row(const Shape& of, uint64_t seed)
      : shape(of), code(of.data_chunks(), of.level->parity), memory(of.members * kChunk) {
    Prng prng(seed);
    for (uint32_t i = 0; i < shape.members; ++i) blocks.push_back(memory.data() + i * kChunk);
    for (uint32_t i = 0; i < shape.data_chunks(); ++i) {
      for (uint32_t at = 0; at < kChunk; ++at) blocks[i][at] = static_cast<std::byte>(prng.next());
    }
    code.encode(blocks.data(), blocks.data() + shape.data_chunks(), kChunk);
  }
  Shape shape;
  ParityCode code;
  io::AlignedBuffer memory;
  std::vector<std::byte*> blocks;
};

// For each band, each set of blocks away and each that are there but cannot be read: what is worked
// out from no more than the plan says is read is what encoding the whole row anew gives.
void expect_right(const Shape& shape, uint64_t written, uint64_t away, uint64_t unreadable) {
  uint32_t data = shape.data_chunks();
  Row row(shape, written);
  Row want(shape, written);
  Band band{512, 1024, written};
  BandPlan plan = plan_band(shape, band, away, unreadable);
  ASSERT_EQ(plan.read_mask & (away | unreadable), 0u) << shape_text(shape) << " reads what is lost";
  uint64_t parity = (uint64_t{1} << shape.members) - (uint64_t{1} << data);
  ASSERT_EQ(plan.change_mask, (written | parity) & ~away);
  std::vector<std::byte*> old(shape.members);
  std::vector<std::byte*> made(shape.members);
  io::AlignedBuffer fresh(shape.members * kChunk);
  io::AlignedBuffer scratch(kBandScratchBlocks * kChunk);
  for (uint32_t i = 0; i < shape.members; ++i) {
    if ((plan.read_mask >> i & 1) != 0) old[i] = row.blocks[i] + band.within_bytes;
    bool is_written = i < data && (written >> i & 1) != 0;
    bool is_parity = i >= data && (away >> i & 1) == 0;
    if (is_written || is_parity) made[i] = fresh.data() + i * kChunk;
    if (!is_written) continue;
    std::memset(made[i], static_cast<int>(i + 40), band.length_bytes);
    std::memcpy(want.blocks[i] + band.within_bytes, made[i], band.length_bytes);
  }
  want.code.encode(want.blocks.data(), want.blocks.data() + data, kChunk);
  encode_band(row.code, band, plan, old, made, scratch.bytes());
  for (uint32_t i = data; i < shape.members; ++i) {
    if (made[i] == nullptr) continue;
    ASSERT_EQ(std::memcmp(made[i], want.blocks[i] + band.within_bytes, band.length_bytes), 0)
        << shape_text(shape) << " away " << away << " unreadable " << unreadable << " written "
        << written << " block " << i;
  }
}

TEST(StripePlan, ParityIsRightWhoeverIsLost) {
  for (const char* text : {"5.3", "5.4", "6.4", "6.5"}) {
    Shape shape = shape_of(text);
    uint64_t all = (uint64_t{1} << shape.members) - 1;
    for (uint64_t lost = 0; lost <= all; ++lost) {
      if (std::popcount(lost) > static_cast<int>(shape.level->parity)) continue;
      for (uint64_t away = lost;; away = (away - 1) & lost) {
        for (uint64_t written = 1; written < uint64_t{1} << shape.data_chunks(); ++written) {
          expect_right(shape, written, away, lost & ~away);
        }
        if (away == 0) break;
      }
    }
  }
}

}  // namespace
}  // namespace bb::raid
