// SPDX-License-Identifier: Apache-2.0
#include "raid/superblock.h"

#include <algorithm>

#include "base/crc32c.h"
#include "raid/stripe_layout.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBARRAY\x1a";
constexpr uint32_t kVersion = 3;
constexpr uint32_t kVersionUnchecked = 2;  // knows no integrity, and is written where there is none

// Offsets of docs/formats/superblock.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 8,
  kAtCrc = 12,
  kAtGeneration = 16,
  kAtArray = 24,
  kAtMember = 40,
  kAtLevel = 56,
  kAtSlot = 60,
  kAtMemberCount = 64,
  kAtBlockSize = 68,
  kAtSize = 72,
  kAtDataOffset = 80,
  kAtBitmapOffset = 88,
  kAtBitmapLength = 96,
  kAtRegionSize = 104,
  kAtCreated = 112,
  kAtRecordVersion = 120,
  kAtEpoch = 128,
  kAtNameLength = 136,
  kAtName = 140,
  kAtSlots = 204,
  kAtCopies = 208,
  kAtIntegrity = 212,
  kAtChunk = 216,
  kAtMemberBytes = 224,
  kAtJournalLife = 232,
  kAtJournalNumber = 248,
  kAtMembers = 256,
};
constexpr size_t kMemberEntryBytes = 32;
static_assert(kMagic.size() == kAtVersion);
static_assert(kAtName + kNameMaxBytes <= kAtSlots);
static_assert(kAtMembers + kMembersListedMax * kMemberEntryBytes <= kSuperblockBytes);

template <typename... Args>
Status corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return error(Code::k_corrupt, "superblock: {}", fmt::format(format, std::forward<Args>(args)...));
}

Status check_sizes(const Superblock& block) {
  if (block.block_size_bytes != 512 && block.block_size_bytes != 4096) {
    return corrupt("block size {} is neither 512 nor 4096", block.block_size_bytes);
  }
  Status region = check_region_size(block.shape, block.region_size_bytes);
  if (!region.ok()) return corrupt("{}", region.text());
  constexpr uint64_t kSizeMax = uint64_t{1} << 57;  // of a member; 64 of them can be counted
  uint64_t unit = std::max<uint64_t>(block.block_size_bytes, block.shape.chunk_bytes);
  if (block.member_bytes == 0 || block.member_bytes > kSizeMax || block.member_bytes % unit != 0) {
    return corrupt("{} bytes on each member", block.member_bytes);
  }
  if (block.shape.level->parity > 0 && block.member_bytes / block.shape.chunk_bytes > kStripesMax) {
    return corrupt("{} stripes (max {})", block.member_bytes / block.shape.chunk_bytes,
                   kStripesMax);
  }
  if (block.size_bytes == 0 || block.size_bytes != block.geometry().size_bytes()) {
    return corrupt("array size {}, and its members make {}", block.size_bytes,
                   block.geometry().size_bytes());
  }
  if (block.integrity != Integrity::kNone && block.member_bytes % kCheckedBlockBytes != 0) {
    return corrupt("{} bytes on each member are not whole blocks of {}", block.member_bytes,
                   kCheckedBlockBytes);
  }
  if (block.data_offset_bytes > kSizeMax || block.data_offset_bytes % block.block_size_bytes != 0) {
    return corrupt("data offset {}", block.data_offset_bytes);
  }
  uint64_t bitmap_bytes = block.geometry().pages() * kBitmapPageBytes;
  if (block.bitmap_offset_bytes < kSuperblockBytes ||
      block.bitmap_offset_bytes % kBitmapPageBytes != 0 ||
      block.bitmap_length_bytes != bitmap_bytes ||
      block.bitmap_offset_bytes > block.data_offset_bytes ||
      block.bitmap_length_bytes > block.data_offset_bytes - block.bitmap_offset_bytes) {
    return corrupt("a bitmap of {} bytes at {} before the data at {} (needs {})",
                   block.bitmap_length_bytes, block.bitmap_offset_bytes, block.data_offset_bytes,
                   bitmap_bytes);
  }
  return {};
}

Result<Shape> decode_shape(const std::byte* at) {
  auto level = static_cast<RaidLevel>(load_le<uint32_t>(at + kAtLevel));
  uint32_t copies = load_le<uint32_t>(at + kAtCopies);
  uint64_t chunk_bytes = load_le<uint64_t>(at + kAtChunk);
  Result<Shape> shape = make_shape(level, load_le<uint32_t>(at + kAtSlots), copies, chunk_bytes);
  if (!shape.ok()) return corrupt("{}", shape.status().text());
  if (shape->copies != copies || shape->chunk_bytes != chunk_bytes) {
    return corrupt("{} copies in chunks of {} bytes are none of RAID {}", copies, chunk_bytes,
                   shape_text(*shape));
  }
  return shape;
}

}  // namespace

void encode_superblock(const Superblock& block, Bytes into) {
  BB_CHECK(into.size() == kSuperblockBytes, "a superblock has {} bytes", into.size());
  BB_CHECK(block.name.size() <= kNameMaxBytes, "a name of {} bytes", block.name.size());
  BB_CHECK(block.members.size() <= kMembersListedMax, "{} members", block.members.size());
  std::memset(into.data(), 0, into.size());
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  bool checked = block.integrity != Integrity::kNone;
  store_le<uint32_t>(at + kAtVersion, checked ? kVersion : kVersionUnchecked);
  store_le<uint64_t>(at + kAtGeneration, block.generation);
  std::memcpy(at + kAtArray, block.array.bytes.data(), 16);
  std::memcpy(at + kAtMember, block.member.bytes.data(), 16);
  store_le<uint32_t>(at + kAtLevel, static_cast<uint32_t>(block.shape.level->id));
  store_le<uint32_t>(at + kAtSlot, block.slot);
  store_le<uint32_t>(at + kAtMemberCount, static_cast<uint32_t>(block.members.size()));
  store_le<uint32_t>(at + kAtBlockSize, block.block_size_bytes);
  store_le<uint64_t>(at + kAtSize, block.size_bytes);
  store_le<uint64_t>(at + kAtDataOffset, block.data_offset_bytes);
  store_le<uint64_t>(at + kAtBitmapOffset, block.bitmap_offset_bytes);
  store_le<uint64_t>(at + kAtBitmapLength, block.bitmap_length_bytes);
  store_le<uint64_t>(at + kAtRegionSize, block.region_size_bytes);
  store_le<uint64_t>(at + kAtCreated, block.created_wall_ns);
  store_le<uint64_t>(at + kAtRecordVersion, block.version);
  store_le<uint64_t>(at + kAtEpoch, block.epoch);
  store_le<uint32_t>(at + kAtNameLength, static_cast<uint32_t>(block.name.size()));
  std::memcpy(at + kAtName, block.name.data(), block.name.size());
  store_le<uint32_t>(at + kAtSlots, block.shape.members);
  store_le<uint32_t>(at + kAtCopies, block.shape.copies);
  store_le<uint32_t>(at + kAtIntegrity, static_cast<uint32_t>(block.integrity));
  store_le<uint64_t>(at + kAtChunk, block.shape.chunk_bytes);
  store_le<uint64_t>(at + kAtMemberBytes, block.member_bytes);
  std::memcpy(at + kAtJournalLife, block.journal_life.bytes.data(), 16);
  store_le<uint64_t>(at + kAtJournalNumber, block.journal_number);
  std::byte* entry = at + kAtMembers;
  for (const Superblock::Seen& member : block.members) {
    std::memcpy(entry, member.uuid.bytes.data(), 16);
    store_le<uint32_t>(entry + 16, static_cast<uint32_t>(member.state));
    store_le<uint64_t>(entry + 24, member.generation);
    entry += kMemberEntryBytes;
  }
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

Result<Superblock> decode_superblock(ConstBytes from) {
  BB_CHECK(from.size() == kSuperblockBytes, "a superblock has {} bytes", from.size());
  const std::byte* at = from.data();
  if (as_text(from.first(kMagic.size())) != kMagic) {
    return error(Code::k_not_found, "no superblock of an array");
  }
  uint32_t stored = load_le<uint32_t>(at + kAtCrc);
  uint32_t computed = crc32c_around(from, kAtCrc);
  if (stored != computed) return corrupt("checksum {:08x}, computed {:08x}", stored, computed);
  uint32_t version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion && version != kVersionUnchecked) {
    return error(Code::k_not_supported, "superblock: version {} (this program knows {} and {})",
                 version, kVersionUnchecked, kVersion);
  }
  Superblock block;
  block.generation = load_le<uint64_t>(at + kAtGeneration);
  block.array = Uuid::from(from.subspan(kAtArray, 16));
  block.member = Uuid::from(from.subspan(kAtMember, 16));
  block.slot = load_le<uint32_t>(at + kAtSlot);
  block.block_size_bytes = load_le<uint32_t>(at + kAtBlockSize);
  block.size_bytes = load_le<uint64_t>(at + kAtSize);
  block.data_offset_bytes = load_le<uint64_t>(at + kAtDataOffset);
  block.bitmap_offset_bytes = load_le<uint64_t>(at + kAtBitmapOffset);
  block.bitmap_length_bytes = load_le<uint64_t>(at + kAtBitmapLength);
  block.region_size_bytes = load_le<uint64_t>(at + kAtRegionSize);
  block.created_wall_ns = load_le<uint64_t>(at + kAtCreated);
  block.version = load_le<uint64_t>(at + kAtRecordVersion);
  block.epoch = load_le<uint64_t>(at + kAtEpoch);
  block.member_bytes = load_le<uint64_t>(at + kAtMemberBytes);
  BB_ASSIGN(block.shape, decode_shape(at));
  if (version == kVersion) {
    uint32_t integrity = load_le<uint32_t>(at + kAtIntegrity);
    if (integrity > static_cast<uint32_t>(Integrity::kCrc32c)) {
      return corrupt("integrity {}", integrity);
    }
    block.integrity = static_cast<Integrity>(integrity);
  }
  block.journal_life = Uuid::from(from.subspan(kAtJournalLife, 16));
  block.journal_number = load_le<uint64_t>(at + kAtJournalNumber);
  if (block.slot >= block.shape.members) {
    return corrupt("slot {}, and RAID {} has {}", block.slot, shape_text(block.shape),
                   block.shape.members);
  }
  if (block.array.is_nil() || block.member.is_nil()) return corrupt("a nil uuid");
  BB_TRY(check_sizes(block));
  uint32_t name_length = load_le<uint32_t>(at + kAtNameLength);
  if (name_length > kNameMaxBytes) {
    return corrupt("a name of {} bytes (max {})", name_length, kNameMaxBytes);
  }
  block.name = as_text(from.subspan(kAtName, name_length));
  uint32_t members = load_le<uint32_t>(at + kAtMemberCount);
  if (members > kMembersListedMax) {
    return corrupt("{} members (max {})", members, kMembersListedMax);
  }
  for (uint32_t i = 0; i < members; ++i) {
    ConstBytes entry = from.subspan(kAtMembers + i * kMemberEntryBytes, kMemberEntryBytes);
    uint32_t state = load_le<uint32_t>(entry.data() + 16);
    if (state < 1 || state > 4) return corrupt("member {} has state {}", i, state);
    block.members.push_back({.uuid = Uuid::from(entry.first(16)),
                             .state = static_cast<MemberState>(state),
                             .generation = load_le<uint64_t>(entry.data() + 24)});
  }
  return block;
}

Result<Superblock> choose_superblock(std::optional<ConstBytes> copy_a,
                                     std::optional<ConstBytes> copy_b) {
  std::optional<Superblock> best;
  std::optional<Status> worst;
  bool unreadable = false;
  for (const std::optional<ConstBytes>& copy : {copy_a, copy_b}) {
    if (!copy) {
      unreadable = true;
      continue;
    }
    Result<Superblock> decoded = decode_superblock(*copy);
    if (decoded.ok()) {
      if (!best || decoded->generation > best->generation) best = std::move(decoded).value();
    } else if (!worst || worst->code() == Code::k_not_found) {
      worst = decoded.status();
    }
  }
  if (best) return *std::move(best);
  // Nothing valid: a damaged copy says more than an empty one, and an unreadable one may hide any.
  if (worst && worst->code() != Code::k_not_found) return *worst;
  if (unreadable) return error(Code::k_io_error, "superblock: no copy could be read");
  return *worst;
}

Superblock superblock_from_record(const MembershipRecord& record, const MemberRecord& member,
                                  uint64_t created_wall_ns) {
  Superblock block;
  block.array = record.array;
  block.member = member.uuid;
  block.name = record.name;
  block.shape = record.shape();
  block.slot = member.slot;
  block.block_size_bytes = record.block_size_bytes;
  block.size_bytes = record.size_bytes;
  block.member_bytes = record.member_bytes;
  block.data_offset_bytes = record.data_offset_bytes;
  block.region_size_bytes = record.region_size_bytes;
  block.integrity = record.integrity;
  block.bitmap_length_bytes = block.geometry().pages() * kBitmapPageBytes;
  block.created_wall_ns = created_wall_ns;
  block.version = record.version;
  block.epoch = record.epoch;
  for (const MemberRecord& other : record.members) {
    block.members.push_back(
        {.uuid = other.uuid, .state = other.state, .generation = other.generation});
  }
  return block;
}

}  // namespace bb::raid
