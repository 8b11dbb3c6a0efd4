// SPDX-License-Identifier: Apache-2.0
// pure: which entries of a journal are done again after a crash
#pragma once

#include <vector>

#include "raid/journal_head.h"

namespace bb::raid {

// An entry found in a member's ring, and which of its parts are whole there.
struct FoundEntry {
  JournalHead head;
  std::vector<bool> whole;  // one for each part
};

// Bytes that go from a ring to where they belong. They may reach around the ring's end.
struct ReplayStep {
  uint32_t slot = 0;
  uint64_t ring_offset_bytes = 0;
  uint32_t row = 0;
  uint32_t within_bytes = 0;
  uint32_t length_bytes = 0;

  bool operator==(const ReplayStep&) const = default;
};

// CRC-32C of bytes in a ring, which may reach around its end.
uint32_t ring_checksum(ConstBytes ring, uint64_t offset_bytes, uint64_t length_bytes);

// Finds the entries in the bytes of a whole ring; `place`: as for a head, without its offset and
// the ring's length.
std::vector<FoundEntry> find_entries(JournalPlace place, ConstBytes ring);

// `found`: by slot, of those members that count and are there (`present_mask`); others' are not
// looked at. Entries before `first_seq`, or before what any head says, have ended. The steps are
// done in order.
std::vector<ReplayStep> plan_replay(const std::vector<std::vector<FoundEntry>>& found,
                                    uint64_t present_mask, uint64_t first_seq);

}  // namespace bb::raid
