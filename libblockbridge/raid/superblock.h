// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "raid/geometry.h"
#include "raid/membership.h"

namespace bb::raid {

// What a member says about itself (docs/formats/superblock.md). Evidence, never authority.
struct Superblock {
  uint64_t generation = 1;  // rises with every write of the superblock; the newer copy counts
  Uuid array;
  Uuid member;
  std::string name;
  Shape shape;
  uint32_t slot = 0;
  uint32_t block_size_bytes = 512;
  uint64_t size_bytes = 0;    // of the array
  uint64_t member_bytes = 0;  // of data on each member
  uint64_t data_offset_bytes = kDataOffsetBytes;
  uint64_t bitmap_offset_bytes = kBitmapOffsetBytes;
  uint64_t bitmap_length_bytes = 0;
  uint64_t region_size_bytes = 0;
  Integrity integrity = Integrity::kNone;
  uint64_t created_wall_ns = 0;
  uint64_t version = 0;  // of the membership record as this member last heard of it
  uint64_t epoch = 0;
  Uuid journal_life;            // of levels with parity: whose entries count (journal.md)
  uint64_t journal_number = 0;  // rises with each life
  struct Seen {
    Uuid uuid;
    MemberState state = MemberState::kInSync;
    uint64_t generation = 0;
    bool operator==(const Seen&) const = default;
  };
  std::vector<Seen> members;

  Geometry geometry() const {
    return {.shape = shape,
            .member_bytes = member_bytes,
            .data_offset_bytes = data_offset_bytes,
            .region_size_bytes = region_size_bytes,
            .integrity = integrity};
  }
  bool operator==(const Superblock&) const = default;
};

// Both need exactly kSuperblockBytes.
void encode_superblock(const Superblock& superblock, Bytes into);
// NOT_FOUND: no magic, so not a member at all. CORRUPT: it once was one, or pretends to be.
// NOT_SUPPORTED: a later version.
Result<Superblock> decode_superblock(ConstBytes from);

// Of two copies as read (nullopt: unreadable) the newer valid one, or why there is none. A copy
// that is damaged counts only if the other is no valid one.
Result<Superblock> choose_superblock(std::optional<ConstBytes> copy_a,
                                     std::optional<ConstBytes> copy_b);

// What the record says, as seen by one member.
Superblock superblock_from_record(const MembershipRecord& record, const MemberRecord& member,
                                  uint64_t created_wall_ns);

}  // namespace bb::raid
