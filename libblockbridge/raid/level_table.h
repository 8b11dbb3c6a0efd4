// SPDX-License-Identifier: Apache-2.0
// pure: the rows of the table of levels
#pragma once

#include "raid/level.h"

namespace bb::raid {

extern const Level kRaid0;
extern const Level kRaid1;
extern const Level kRaid1e;
extern const Level kRaid10;
extern const Level kRaid5;
extern const Level kRaid6;

// Near: the copies of a chunk lie side by side, and go on in the next row.
inline ChunkPlace near_place(const Shape& shape, uint64_t chunk, uint32_t copy) {
  uint64_t at = chunk * shape.copies + copy;
  return {.slot = static_cast<uint32_t>(at % shape.members), .row = at / shape.members};
}

// Left-symmetric: parity moves one member to the left with each row, and data begin behind it.
inline uint32_t rotating_parity_slot(const Shape& shape, uint64_t row, uint32_t which) {
  uint64_t first = shape.members - 1 - row % shape.members;
  return static_cast<uint32_t>((first + which) % shape.members);
}
inline ChunkPlace rotating_place(const Shape& shape, uint64_t chunk, uint32_t parity) {
  uint64_t in_row = shape.members - parity;
  uint64_t row = chunk / in_row;
  uint64_t at = rotating_parity_slot(shape, row, 0) + parity + chunk % in_row;
  return {.slot = static_cast<uint32_t>(at % shape.members), .row = row};
}

}  // namespace bb::raid
