// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/uuid.h"
#include "raid/level.h"

namespace bb::raid {

inline constexpr uint64_t kJournalHeadBytes = 4096;
inline constexpr uint64_t kJournalHeadFixedBytes = 96;
inline constexpr uint64_t kJournalPartBytes = 32;
inline constexpr size_t kJournalPartsMax =
    (kJournalHeadBytes - kJournalHeadFixedBytes) / kJournalPartBytes;

// What one write puts on one member: new bytes of its chunk of a row.
struct JournalPart {
  uint32_t write = 0;  // its number within the entry, the same on all members it touches
  uint32_t row = 0;
  uint64_t touched_mask = 0;  // slots whose chunks of the row the write changes
  uint32_t within_bytes = 0;  // of the chunk
  uint32_t length_bytes = 0;
  uint32_t checksum = 0;  // CRC-32C of the bytes

  bool operator==(const JournalPart&) const = default;
};

// The head of an entry on one member (docs/formats/journal.md). The parts' bytes follow it, one
// after the other, and go on at the ring's start when they reach its end.
struct JournalHead {
  Uuid array;
  Uuid life;  // of the journal; random at each assembly, and never seen by a host
  uint64_t seq = 0;
  uint64_t first_seq = 0;          // entries before this one have ended
  uint64_t offset_bytes = 0;       // where in the ring the head lies
  uint32_t slot = 0;               // whose ring
  std::vector<JournalPart> parts;  // none: it is there for first_seq

  uint64_t length_bytes() const;  // with the parts' bytes, rounded up to whole heads
  bool operator==(const JournalHead&) const = default;
};

// `into` has kJournalHeadBytes.
void encode_journal_head(const JournalHead& head, Bytes into);

// What must be so for a head to count.
struct JournalPlace {
  Uuid array;
  Uuid life;
  uint32_t slot = 0;
  uint64_t ring_bytes = 0;
  uint64_t offset_bytes = 0;  // where it was found
  Shape shape;
  uint64_t rows = 0;
};
// NOT_FOUND: no head, or one of another life, place, member or array: such lie in a ring by right.
// CORRUPT: it is ours, and damaged or says what cannot be.
Result<JournalHead> decode_journal_head(const JournalPlace& place, ConstBytes from);

}  // namespace bb::raid
