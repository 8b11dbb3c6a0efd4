// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <span>

#include "base/bytes.h"
#include "base/uuid.h"

namespace bb::raid {

inline constexpr uint64_t kStripePageBytes = 4096;
inline constexpr uint64_t kStripePageHeaderBytes = 64;
inline constexpr uint64_t kStripesPerPage = (kStripePageBytes - kStripePageHeaderBytes) / 4;
inline constexpr uint64_t kStripePageCopies = 2;  // written in turn

// One page of the stripe map on a member (docs/formats/stripe-map.md).
struct StripePageHead {
  Uuid array;
  uint32_t page = 0;
  uint64_t generation = 0;  // of this page, rises with every write
  Uuid life;                // of the journal: what `first_seq` counts in
  uint64_t first_seq = 0;   // entries before this one have ended
};

// `rows`: where each of the page's stripes lies; `into` has kStripePageBytes.
void encode_stripe_page(const StripePageHead& head, std::span<const uint32_t> rows, Bytes into);

// Fills `rows`, as many as there are stripes on the page. CORRUPT: damaged, not this page of this
// array, or a row that is none of the `row_count` there are; `rows` is then as it was.
Result<StripePageHead> decode_stripe_page(const Uuid& array, uint32_t page, ConstBytes from,
                                          uint64_t row_count, std::span<uint32_t> rows);

// What the page says, which may be damaged; 0: it was never written.
uint64_t claimed_generation(ConstBytes from);

// From the start of the map; generations take the copies in turn.
constexpr uint64_t stripe_page_offset_bytes(uint32_t page, uint64_t generation) {
  return (page * kStripePageCopies + generation % kStripePageCopies) * kStripePageBytes;
}

}  // namespace bb::raid
