// SPDX-License-Identifier: Apache-2.0
#include "raid/journal_head.h"

#include "base/crc32c.h"
#include "base/units.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBJH";
constexpr uint32_t kVersion = 1;

// Offsets of docs/formats/journal.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtCrc = 8,
  kAtPartCount = 12,
  kAtSeq = 16,
  kAtOffset = 24,
  kAtArray = 32,
  kAtLife = 48,
  kAtSlot = 64,
  kAtFirstSeq = 72,
  kAtParts = kJournalHeadFixedBytes,
};

// Of a part.
enum PartAt : size_t {
  kAtWrite = 0,
  kAtRow = 4,
  kAtTouched = 8,
  kAtWithin = 16,
  kAtLength = 20,
  kAtChecksum = 24,
};

JournalPart decode_part(const std::byte* at) {
  return {.write = load_le<uint32_t>(at + kAtWrite),
          .row = load_le<uint32_t>(at + kAtRow),
          .touched_mask = load_le<uint64_t>(at + kAtTouched),
          .within_bytes = load_le<uint32_t>(at + kAtWithin),
          .length_bytes = load_le<uint32_t>(at + kAtLength),
          .checksum = load_le<uint32_t>(at + kAtChecksum)};
}

Status check_part(const JournalPart& part, const JournalPlace& place) {
  auto corrupt = [&part](std::string why) {
    return error(Code::k_corrupt, "journal: write {}: {}", part.write, why);
  };
  if (part.row >= place.rows) return corrupt(fmt::format("row {} of {}", part.row, place.rows));
  uint64_t end = uint64_t{part.within_bytes} + part.length_bytes;
  if (part.length_bytes == 0 || end > place.shape.chunk_bytes) {
    return corrupt(fmt::format("{} bytes at {} of a chunk of {}", part.length_bytes,
                               part.within_bytes, place.shape.chunk_bytes));
  }
  bool within = (part.touched_mask & ~place.shape.all_slots()) == 0;
  bool mine = (part.touched_mask >> place.slot & 1) != 0;
  if (!within || !mine) {
    return corrupt(fmt::format("touches members {:x}, on member {} of {}", part.touched_mask,
                               place.slot, place.shape.members));
  }
  return {};
}

}  // namespace

uint64_t JournalHead::length_bytes() const {
  uint64_t bytes = 0;
  for (const JournalPart& part : parts) bytes += part.length_bytes;
  return kJournalHeadBytes + round_up(bytes, kJournalHeadBytes);
}

void encode_journal_head(const JournalHead& head, Bytes into) {
  BB_CHECK(into.size() == kJournalHeadBytes, "a head of the journal has {} bytes", into.size());
  BB_CHECK(head.parts.size() <= kJournalPartsMax, "{} parts", head.parts.size());
  std::memset(into.data(), 0, into.size());
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  store_le<uint32_t>(at + kAtVersion, kVersion);
  store_le<uint32_t>(at + kAtPartCount, static_cast<uint32_t>(head.parts.size()));
  store_le<uint64_t>(at + kAtSeq, head.seq);
  store_le<uint64_t>(at + kAtOffset, head.offset_bytes);
  std::memcpy(at + kAtArray, head.array.bytes.data(), 16);
  std::memcpy(at + kAtLife, head.life.bytes.data(), 16);
  store_le<uint32_t>(at + kAtSlot, head.slot);
  store_le<uint64_t>(at + kAtFirstSeq, head.first_seq);
  std::byte* entry = at + kAtParts;
  for (const JournalPart& part : head.parts) {
    store_le<uint32_t>(entry + kAtWrite, part.write);
    store_le<uint32_t>(entry + kAtRow, part.row);
    store_le<uint64_t>(entry + kAtTouched, part.touched_mask);
    store_le<uint32_t>(entry + kAtWithin, part.within_bytes);
    store_le<uint32_t>(entry + kAtLength, part.length_bytes);
    store_le<uint32_t>(entry + kAtChecksum, part.checksum);
    entry += kJournalPartBytes;
  }
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

Result<JournalHead> decode_journal_head(const JournalPlace& place, ConstBytes from) {
  BB_CHECK(from.size() == kJournalHeadBytes, "a head of the journal has {} bytes", from.size());
  const std::byte* at = from.data();
  JournalHead head{.array = Uuid::from(from.subspan(kAtArray, 16)),
                   .life = Uuid::from(from.subspan(kAtLife, 16)),
                   .seq = load_le<uint64_t>(at + kAtSeq),
                   .first_seq = load_le<uint64_t>(at + kAtFirstSeq),
                   .offset_bytes = load_le<uint64_t>(at + kAtOffset),
                   .slot = load_le<uint32_t>(at + kAtSlot)};
  bool ours = as_text(from.first(kMagic.size())) == kMagic && head.array == place.array &&
              head.life == place.life && head.slot == place.slot &&
              head.offset_bytes == place.offset_bytes;
  if (!ours) return error(Code::k_not_found, "no head of this journal at {}", place.offset_bytes);
  uint32_t stored = load_le<uint32_t>(at + kAtCrc);
  uint32_t computed = crc32c_around(from, kAtCrc);
  if (stored != computed) {
    return error(Code::k_corrupt, "journal: head at {}: checksum {:08x}, computed {:08x}",
                 place.offset_bytes, stored, computed);
  }
  uint32_t version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion) return error(Code::k_corrupt, "journal: version {}", version);
  uint32_t count = load_le<uint32_t>(at + kAtPartCount);
  if (count > kJournalPartsMax || head.seq == 0 || head.first_seq > head.seq) {
    return error(Code::k_corrupt, "journal: entry {} of {} parts, those before {} have ended",
                 head.seq, count, head.first_seq);
  }
  for (uint32_t i = 0; i < count; ++i) {
    head.parts.push_back(decode_part(at + kAtParts + i * kJournalPartBytes));
    BB_TRY(check_part(head.parts.back(), place));
  }
  if (head.length_bytes() > place.ring_bytes) {
    return error(Code::k_corrupt, "journal: entry {} of {} bytes in a ring of {}", head.seq,
                 head.length_bytes(), place.ring_bytes);
  }
  return head;
}

}  // namespace bb::raid
