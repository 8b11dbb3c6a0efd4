// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "base/units.h"
#include "raid/checksum_page.h"
#include "raid/level.h"

namespace bb::raid {

inline constexpr uint64_t kSuperblockBytes = 4 * KiB;
inline constexpr uint64_t kBitmapOffsetBytes = 64 * KiB;
inline constexpr uint64_t kBitmapPageBytes = 4 * KiB;
inline constexpr uint64_t kBitmapPageHeaderBytes = 64;
inline constexpr uint64_t kRegionsPerPage = (kBitmapPageBytes - kBitmapPageHeaderBytes) * 8;
inline constexpr uint64_t kDataOffsetBytes = 1 * MiB;
inline constexpr uint64_t kRegionMinBytes = 64 * KiB;
inline constexpr uint64_t kRegionMaxBytes = 4 * GiB;
inline constexpr uint64_t kBitmapPagesAuto = 8;  // what an automatic region size aims at
inline constexpr uint64_t kBitmapPagesMax =
    (kDataOffsetBytes - kBitmapOffsetBytes) / kBitmapPageBytes;
inline constexpr uint64_t kArrayMinBytes = 1 * MiB;

// Regions: the same bytes of every member's data, so that a bit stands for a range of rows.
struct RegionRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

struct ArrayRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
};

// Where things lie on a member. The same numbers on every member of an array.
struct Geometry {
  Shape shape;
  uint64_t member_bytes = 0;  // of data on each member
  uint64_t data_offset_bytes = kDataOffsetBytes;
  uint64_t region_size_bytes = 0;  // no less than a chunk
  Integrity integrity = Integrity::kNone;

  uint64_t size_bytes() const { return shape.capacity_bytes(member_bytes); }  // of the array
  uint64_t regions() const { return div_up(member_bytes, region_size_bytes); }
  uint64_t pages() const { return div_up(regions(), kRegionsPerPage); }
  // What the data and, of levels with parity, map and journal take of each member.
  uint64_t data_extent_bytes() const;
  // Checksums follow them, a page for so many blocks.
  bool checked() const { return integrity != Integrity::kNone; }
  uint64_t checked_blocks() const;
  uint64_t checksum_pages() const { return div_up(checked_blocks(), uint64_t{kChecksumsPerPage}); }
  // Both copies of a page, next to each other.
  uint64_t checksum_offset_bytes(uint64_t page) const {
    return round_up(data_offset_bytes + data_extent_bytes(), kChecksumPageBytes) +
           page * kChecksumPageCopies * kChecksumPageBytes;
  }
  // All of it, from the data's offset on.
  uint64_t extent_bytes() const {
    return checksum_offset_bytes(checksum_pages()) - data_offset_bytes;
  }
  // Where copies of a range of the array lie; length > 0.
  RegionRange range_of(uint64_t offset_bytes, uint64_t length_bytes) const;
  // The bytes of the array of which a copy lies in these regions.
  ArrayRange array_range(RegionRange regions) const;
};

// The second superblock of a device of this size.
uint64_t superblock_b_offset_bytes(uint64_t device_size_bytes);
// Room for data on a device of this size; 0 when it is too small for an array.
uint64_t data_room_bytes(uint64_t device_size_bytes);

struct GeometryDevice {
  std::string name;
  uint64_t size_bytes = 0;
  uint32_t block_size_bytes = 0;
};
// The largest array these devices can hold. region_size_bytes 0: chosen.
Result<Geometry> plan_geometry(const Shape& shape, std::span<const GeometryDevice> devices,
                               uint64_t region_size_bytes, Integrity integrity);
uint64_t auto_region_size_bytes(const Shape& shape, uint64_t member_bytes);
Status check_region_size(const Shape& shape, uint64_t region_size_bytes);

}  // namespace bb::raid
