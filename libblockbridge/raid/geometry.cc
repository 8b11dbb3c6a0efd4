// SPDX-License-Identifier: Apache-2.0
#include "raid/geometry.h"

#include <algorithm>

namespace bb::raid {

uint64_t superblock_b_offset_bytes(uint64_t device_size_bytes) {
  BB_CHECK(device_size_bytes >= kSuperblockBytes, "a device of {} bytes", device_size_bytes);
  return round_down(device_size_bytes - kSuperblockBytes, 64 * KiB);
}

uint64_t data_room_bytes(uint64_t device_size_bytes) {
  if (device_size_bytes < kDataOffsetBytes + kArrayMinBytes + kSuperblockBytes) return 0;
  return superblock_b_offset_bytes(device_size_bytes) - kDataOffsetBytes;
}

uint64_t auto_region_size_bytes(uint64_t array_size_bytes) {
  uint64_t size = kRegionMinBytes;
  while (div_up(array_size_bytes, size) > kBitmapPagesAuto * kRegionsPerPage) size *= 2;
  return size;
}

Result<Geometry> plan_geometry(std::span<const GeometryDevice> devices,
                               uint64_t region_size_bytes) {
  BB_CHECK(!devices.empty(), "no devices");
  uint64_t room = UINT64_MAX;
  for (const GeometryDevice& device : devices) {
    if (device.block_size_bytes != devices[0].block_size_bytes) {
      return error(Code::k_invalid_argument,
                   "{} has blocks of {} bytes, but {} has blocks of {}: all members need the same",
                   device.name, device.block_size_bytes, devices[0].name,
                   devices[0].block_size_bytes);
    }
    uint64_t here = data_room_bytes(device.size_bytes);
    if (here == 0) {
      return error(Code::k_no_space, "{} has {} bytes: too small for a member, which needs {}",
                   device.name, device.size_bytes,
                   kDataOffsetBytes + kArrayMinBytes + kSuperblockBytes);
    }
    room = std::min(room, here);
  }
  Geometry geometry;
  geometry.size_bytes = round_down(room, kRegionMinBytes);
  geometry.region_size_bytes =
      region_size_bytes != 0 ? region_size_bytes : auto_region_size_bytes(geometry.size_bytes);
  if (!is_power_of_two(geometry.region_size_bytes) ||
      geometry.region_size_bytes < kRegionMinBytes ||
      geometry.region_size_bytes > kRegionMaxBytes) {
    return error(Code::k_invalid_argument, "region size {} is not a power of two from {} to {}",
                 region_size_bytes, kRegionMinBytes, kRegionMaxBytes);
  }
  if (geometry.pages() > kBitmapPagesMax) {
    return error(Code::k_invalid_argument,
                 "region size {} needs a bitmap of {} pages (max {}): use {} or more",
                 region_size_bytes, geometry.pages(), kBitmapPagesMax,
                 auto_region_size_bytes(geometry.size_bytes));
  }
  return geometry;
}

}  // namespace bb::raid
