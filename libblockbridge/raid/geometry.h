// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "base/units.h"

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

// Regions touched by a range of the array.
struct RegionRange {
  uint64_t first = 0;
  uint64_t count = 0;
};

// Where things lie on a member. The same numbers on every member of an array.
struct Geometry {
  uint64_t size_bytes = 0;  // of the array
  uint64_t data_offset_bytes = kDataOffsetBytes;
  uint64_t region_size_bytes = 0;

  uint64_t regions() const { return div_up(size_bytes, region_size_bytes); }
  uint64_t pages() const { return div_up(regions(), kRegionsPerPage); }
  RegionRange range_of(uint64_t offset_bytes, uint64_t length_bytes) const {
    uint64_t first = offset_bytes / region_size_bytes;
    uint64_t last = (offset_bytes + length_bytes - 1) / region_size_bytes;
    return {first, last - first + 1};
  }
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
Result<Geometry> plan_geometry(std::span<const GeometryDevice> devices, uint64_t region_size_bytes);
uint64_t auto_region_size_bytes(uint64_t array_size_bytes);

}  // namespace bb::raid
