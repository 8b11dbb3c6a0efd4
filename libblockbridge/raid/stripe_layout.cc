// SPDX-License-Identifier: Apache-2.0
// pure
#include "raid/stripe_layout.h"

#include <algorithm>

#include "base/units.h"

namespace bb::raid {
namespace {

// Free rows let stripes that are written together share a page; a few are enough for that.
uint64_t spare_rows(uint64_t stripes) { return std::clamp<uint64_t>(stripes / 64, 4, 1024); }

// A ring that stays in a processor's cache costs less than a long one, and a full one costs a
// flush.
uint64_t ring_bytes(const Shape& shape, uint64_t member_bytes) {
  uint64_t least = ring_min_bytes(shape) + 2 * shape.chunk_bytes;
  return round_up(std::max(least, std::min<uint64_t>(member_bytes / 64, 1 * MiB)),
                  kJournalHeadBytes);
}

uint64_t map_bytes(uint64_t stripes) {
  return div_up(stripes, kStripesPerPage) * kStripePageCopies * kStripePageBytes;
}

}  // namespace

uint64_t stripe_rows(const Shape& shape, uint64_t member_bytes) {
  uint64_t stripes = member_bytes / shape.chunk_bytes;
  return stripes + spare_rows(stripes);
}

StripeLayout layout_stripes(const Uuid& array, const Shape& shape, uint64_t data_offset_bytes,
                            uint64_t member_bytes) {
  StripeLayout layout{.array = array, .shape = shape, .data_offset_bytes = data_offset_bytes};
  layout.stripes = member_bytes / shape.chunk_bytes;
  layout.rows = stripe_rows(shape, member_bytes);
  layout.map_offset_bytes = data_offset_bytes + layout.rows * shape.chunk_bytes;
  layout.ring_offset_bytes = layout.map_offset_bytes + map_bytes(layout.stripes);
  layout.ring_bytes = ring_bytes(shape, member_bytes);
  return layout;
}

uint64_t stripes_extent_bytes(const Shape& shape, uint64_t member_bytes) {
  StripeLayout layout = layout_stripes({}, shape, 0, member_bytes);
  return layout.ring_offset_bytes + layout.ring_bytes;
}

}  // namespace bb::raid
