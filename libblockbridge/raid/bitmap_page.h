// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/bytes.h"
#include "base/uuid.h"
#include "raid/geometry.h"
#include "raid/region_set.h"

namespace bb::raid {

// One page of the write-intent bitmap on a member (docs/formats/bitmap.md).
struct BitmapPageHead {
  Uuid array;
  uint32_t page = 0;
  uint64_t generation = 0;  // of this page, rises with every write
};

// Takes the page's bits out of `dirty`; `into` has kBitmapPageBytes.
void encode_bitmap_page(const BitmapPageHead& head, const RegionSet& dirty, Bytes into);

// Adds the page's bits to `dirty`. A page that is damaged, or not this page of this array, is
// CORRUPT and adds nothing: the caller decides what it does not know (mark_page_dirty).
Result<BitmapPageHead> decode_bitmap_page(const Uuid& array, uint32_t page, ConstBytes from,
                                          RegionSet& dirty);
void mark_page_dirty(uint32_t page, RegionSet& dirty);

}  // namespace bb::raid
