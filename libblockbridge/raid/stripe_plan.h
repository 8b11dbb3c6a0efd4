// SPDX-License-Identifier: Apache-2.0
// pure: how a part of a stripe is read and written
#pragma once

#include <span>
#include <vector>

#include "base/bytes.h"
#include "raid/parity.h"

namespace bb::raid {

// The blocks of a row are numbered data first, then P and Q. Masks of blocks below count so; masks
// of slots count members.
uint32_t block_slot(const Shape& shape, uint64_t row, uint32_t block);
uint64_t blocks_of_slots(const Shape& shape, uint64_t row, uint64_t slots_mask);
uint64_t slots_of_blocks(const Shape& shape, uint64_t row, uint64_t blocks_mask);

// Columns of a row in which the same data blocks are written: a contiguous write has three at most.
struct Band {
  uint32_t within_bytes = 0;  // of each chunk
  uint32_t length_bytes = 0;
  uint64_t written_mask = 0;  // data blocks, written over the whole band

  bool operator==(const Band&) const = default;
};
// The bands of a write of `length` bytes from `offset` of a stripe's data on, in order.
std::vector<Band> bands_of(const Shape& shape, uint64_t offset_bytes, uint64_t length_bytes);

enum class BandMode : uint8_t {
  kModify,       // reads what is overwritten and the parity: parity changes by the difference
  kReconstruct,  // reads the other data: parity is encoded anew
  kRebuild,      // reads whatever is there: lost data are worked out first, then as kReconstruct
};

// How a band is written: whichever way reads least.
struct BandPlan {
  BandMode mode = BandMode::kReconstruct;
  uint64_t read_mask = 0;    // blocks to be read
  uint64_t change_mask = 0;  // blocks that change and are there
  uint64_t lost_mask = 0;    // blocks that cannot be read
};
// `away_mask`: blocks that are neither read nor written; `unreadable_mask`: that are written but
// not read, as of a member that is recovering or of a bad sector. Together no more than the parity.
BandPlan plan_band(const Shape& shape, const Band& band, uint64_t away_mask,
                   uint64_t unreadable_mask = 0);

// Works out the new parity of a band. Pointers by block: `old` where the plan reads, `made` new
// data (given, also of blocks that are away) and new parity (into which it goes; null where it is
// away). With kModify `old` data become the difference, and new parity may go where the old one is.
// `scratch`: kBandScratchBlocks times the band's length.
inline constexpr size_t kBandScratchBlocks = kParityMax + 1;
void encode_band(const ParityCode& code, const Band& band, const BandPlan& plan,
                 std::span<std::byte* const> old, std::span<std::byte* const> made, Bytes scratch);

}  // namespace bb::raid
