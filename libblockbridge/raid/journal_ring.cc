// SPDX-License-Identifier: Apache-2.0
#include "raid/journal_ring.h"

#include "base/check.h"

namespace bb::raid {

std::optional<uint64_t> JournalRing::take(uint64_t seq, uint64_t length_bytes) {
  BB_CHECK(length_bytes > 0 && length_bytes <= ring_bytes_, "an entry of {} bytes, a ring of {}",
           length_bytes, ring_bytes_);
  BB_CHECK(entries_.empty() || entries_.back().seq < seq, "entry {} after {}", seq,
           entries_.empty() ? 0 : entries_.back().seq);
  if (!has_room(length_bytes)) return std::nullopt;
  uint64_t at = next_;
  next_ = (at + length_bytes) % ring_bytes_;
  used_bytes_ += length_bytes;
  entries_.push_back({seq, length_bytes});
  return at;
}

void JournalRing::end_before(uint64_t first_seq) {
  while (!entries_.empty() && entries_.front().seq < first_seq) {
    used_bytes_ -= entries_.front().length_bytes;
    entries_.pop_front();
  }
}

}  // namespace bb::raid
