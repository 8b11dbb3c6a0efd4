// SPDX-License-Identifier: Apache-2.0
// pure: parity of the blocks of a row, and what it brings back
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "raid/level.h"

namespace bb::raid {

// All blocks of one call: as long as each other, kParityAlignBytes aligned, a multiple of that
// long.
inline constexpr size_t kParityAlignBytes = 32;

// P is the sum of the data blocks of a row, Q that of g^i times block i, in the field of 256
// elements with the polynomial 0x11d and g = 2: those of Linux md ("The mathematics of RAID-6",
// 2004). The arithmetic is ISA-L's.
class ParityCode {
 public:
  ParityCode(uint32_t data, uint32_t parity);  // data 1 to 63, parity 1 or 2

  uint32_t data() const { return data_; }
  uint32_t parity() const { return parity_; }

  void encode(const std::byte* const* data, std::byte* const* parity, size_t bytes) const;
  // Data block `index` becomes itself plus `delta` (old plus new): so do its parities. A null one
  // is left out.
  void update(uint32_t index, const std::byte* delta, std::byte* const* parity, size_t bytes) const;
  uint8_t coefficient(uint32_t which, uint32_t index) const;

 private:
  friend class Reconstruction;
  uint32_t data_;
  uint32_t parity_;
  std::vector<uint8_t> tables_;  // ISA-L's, of one coefficient after the other: P's, Q's
};

void xor_into(std::byte* into, const std::byte* from, size_t bytes);

// How to make what is lost out of what is there. Blocks are numbered data first, then parity.
// Worked out once for each set of lost blocks, then cheap to use.
class Reconstruction {
 public:
  // `lost_mask`: bit i is block i. INVALID_ARGUMENT: more than the parity can bring back.
  static Result<Reconstruction> plan(const ParityCode& code, uint64_t lost_mask);

  const std::vector<uint32_t>& sources() const { return sources_; }  // blocks it reads, in order
  const std::vector<uint32_t>& lost() const { return lost_; }        // and makes, in order
  void run(const std::byte* const* sources, std::byte* const* lost, size_t bytes) const;

 private:
  std::vector<uint32_t> sources_;
  std::vector<uint32_t> lost_;
  std::vector<uint8_t> tables_;
};

}  // namespace bb::raid
