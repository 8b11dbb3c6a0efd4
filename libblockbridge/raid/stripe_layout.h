// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/uuid.h"
#include "raid/journal_head.h"
#include "raid/level.h"
#include "raid/stripe_page.h"

namespace bb::raid {

// Where the parts of an array with parity lie on each of its members.
struct StripeLayout {
  Uuid array;
  Shape shape;
  uint64_t stripes = 0;
  uint64_t rows = 0;  // more than stripes
  uint64_t map_offset_bytes = 0;
  uint64_t ring_offset_bytes = 0;
  // A multiple of kJournalHeadBytes, and ring_min_bytes() at least. 0: no journal, a crash may
  // leave parity wrong; to measure what the journal costs.
  uint64_t ring_bytes = 0;
  uint64_t data_offset_bytes = 0;
};

// The longest entry there may be, one head that announces what has ended, and room for another.
inline uint64_t ring_min_bytes(const Shape& shape) {
  return shape.chunk_bytes + 3 * kJournalHeadBytes;
}

uint64_t stripe_rows(const Shape& shape, uint64_t member_bytes);
// The layout of members whose data are so long: rows, then the map, then the ring.
StripeLayout layout_stripes(const Uuid& array, const Shape& shape, uint64_t data_offset_bytes,
                            uint64_t member_bytes);
// What that takes of each member, from the data's offset on.
uint64_t stripes_extent_bytes(const Shape& shape, uint64_t member_bytes);

inline constexpr uint64_t kStripesMax = 1u << 30;

}  // namespace bb::raid
