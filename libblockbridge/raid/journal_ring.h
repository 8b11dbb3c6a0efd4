// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace bb::raid {

// The room of one member's ring, taken in order and given back in order. It is a circle: what does
// not fit before its end goes on at its start, so that the oldest bytes are always overwritten
// first and no entry outlives a later one.
class JournalRing {
 public:
  explicit JournalRing(uint64_t ring_bytes) : ring_bytes_(ring_bytes) {}

  // Room for an entry: where it begins. `seq` rises. None: entries must end first.
  std::optional<uint64_t> take(uint64_t seq, uint64_t length_bytes);
  bool has_room(uint64_t length_bytes) const { return used_bytes_ + length_bytes <= ring_bytes_; }
  // All entries before `first_seq` have ended.
  void end_before(uint64_t first_seq);

  // Is there anything that end_before(first_seq) would give back?
  bool holds_before(uint64_t first_seq) const {
    return !entries_.empty() && entries_.front().seq < first_seq;
  }
  uint64_t ring_bytes() const { return ring_bytes_; }
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  struct Entry {
    uint64_t seq;
    uint64_t length_bytes;
  };
  uint64_t ring_bytes_;
  uint64_t next_ = 0;
  uint64_t used_bytes_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace bb::raid
