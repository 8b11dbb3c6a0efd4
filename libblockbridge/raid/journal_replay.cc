// SPDX-License-Identifier: Apache-2.0
#include "raid/journal_replay.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/crc32c.h"
#include "base/mutant.h"

namespace bb::raid {
namespace {

// A write of an entry: its parts on the members that have them.
struct FoundWrite {
  uint64_t touched_mask = 0;
  uint64_t found_mask = 0;
  uint64_t torn_mask = 0;  // a part of it, or more
  bool agreed = true;      // all members say the same of it
  std::vector<ReplayStep> steps;
};

void add(FoundWrite& write, uint32_t slot, const FoundEntry& entry, size_t index,
         uint64_t data_offset) {
  const JournalPart& part = entry.head.parts[index];
  bool first = write.steps.empty();
  if (first) write.touched_mask = part.touched_mask;
  bool same = part.touched_mask == write.touched_mask;
  write.agreed &= same && (first || part.row == write.steps.front().row);
  write.found_mask |= uint64_t{1} << slot;
  if (!entry.whole[index]) write.torn_mask |= uint64_t{1} << slot;
  write.steps.push_back({.slot = slot,
                         .ring_offset_bytes = data_offset,
                         .row = part.row,
                         .within_bytes = part.within_bytes,
                         .length_bytes = part.length_bytes});
}

}  // namespace

uint32_t ring_checksum(ConstBytes ring, uint64_t offset_bytes, uint64_t length_bytes) {
  offset_bytes %= ring.size();
  uint64_t first = std::min(length_bytes, ring.size() - offset_bytes);
  uint32_t crc = crc32c(ring.subspan(offset_bytes, first));
  return crc32c(ring.first(length_bytes - first), crc);
}

std::vector<FoundEntry> find_entries(JournalPlace place, ConstBytes ring) {
  std::vector<FoundEntry> found;
  place.ring_bytes = ring.size();
  for (uint64_t at = 0; at + kJournalHeadBytes <= ring.size(); at += kJournalHeadBytes) {
    place.offset_bytes = at;
    Result<JournalHead> head = decode_journal_head(place, ring.subspan(at, kJournalHeadBytes));
    if (!head.ok()) continue;  // a torn head is one that nobody may count on either
    FoundEntry entry{.head = std::move(*head), .whole = {}};
    uint64_t data = at + kJournalHeadBytes;
    for (const JournalPart& part : entry.head.parts) {
      entry.whole.push_back(ring_checksum(ring, data, part.length_bytes) == part.checksum);
      data += part.length_bytes;
    }
    found.push_back(std::move(entry));
  }
  return found;
}

std::vector<ReplayStep> plan_replay(const std::vector<std::vector<FoundEntry>>& found,
                                    uint64_t present_mask, uint64_t first_seq) {
  // Where an entry is missing because it ended and its room was needed, a head says that it ended.
  for (uint32_t slot = 0; slot < found.size(); ++slot) {
    if ((present_mask >> slot & 1) == 0) continue;
    for (const FoundEntry& entry : found[slot]) {
      first_seq = std::max(first_seq, entry.head.first_seq);
    }
  }
  std::map<std::pair<uint64_t, uint32_t>, FoundWrite> writes;  // by sequence and number
  for (uint32_t slot = 0; slot < found.size(); ++slot) {
    if ((present_mask >> slot & 1) == 0) continue;
    for (const FoundEntry& entry : found[slot]) {
      if (entry.head.seq < first_seq) continue;
      uint64_t data = entry.head.offset_bytes + kJournalHeadBytes;
      for (size_t i = 0; i < entry.head.parts.size(); ++i) {
        const JournalPart& part = entry.head.parts[i];
        add(writes[{entry.head.seq, part.write}], slot, entry, i, data);
        data += part.length_bytes;
      }
    }
  }
  std::vector<ReplayStep> steps;
  for (const auto& [number, write] : writes) {
    uint64_t wanted = write.touched_mask & present_mask;
    bool whole = (write.found_mask & wanted) == wanted || BB_MUTANT(kReplayAny);
    whole = whole && ((write.torn_mask & wanted) == 0 || BB_MUTANT(kReplayTorn));
    if (!write.agreed || !whole) continue;
    steps.insert(steps.end(), write.steps.begin(), write.steps.end());
  }
  if (BB_MUTANT(kReplayBackwards)) std::ranges::reverse(steps);
  if (BB_MUTANT(kReplayNone)) steps.clear();
  return steps;
}

}  // namespace bb::raid
