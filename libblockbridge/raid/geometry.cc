// SPDX-License-Identifier: Apache-2.0
#include "raid/geometry.h"

#include <algorithm>

#include "raid/stripe_layout.h"

namespace bb::raid {

uint64_t superblock_b_offset_bytes(uint64_t device_size_bytes) {
  BB_CHECK(device_size_bytes >= kSuperblockBytes, "a device of {} bytes", device_size_bytes);
  return round_down(device_size_bytes - kSuperblockBytes, 64 * KiB);
}

uint64_t data_room_bytes(uint64_t device_size_bytes) {
  if (device_size_bytes < kDataOffsetBytes + kArrayMinBytes + kSuperblockBytes) return 0;
  return superblock_b_offset_bytes(device_size_bytes) - kDataOffsetBytes;
}

RegionRange Geometry::range_of(uint64_t offset_bytes, uint64_t length_bytes) const {
  uint64_t last_bytes = offset_bytes + length_bytes - 1;
  // Copies follow each other, so the first copy of the first byte lies lowest.
  uint64_t from = copy_place(shape, offset_bytes, 0).offset_bytes;
  uint64_t to = copy_place(shape, last_bytes, shape.copies - 1).offset_bytes;
  if (shape.chunk_bytes != 0 &&
      offset_bytes / shape.chunk_bytes != last_bytes / shape.chunk_bytes) {
    from = round_down(from, shape.chunk_bytes);  // later chunks of these rows begin before it
    to = round_down(to, shape.chunk_bytes) + shape.chunk_bytes - 1;
  }
  uint64_t first = from / region_size_bytes;
  return {first, to / region_size_bytes - first + 1};
}

ArrayRange Geometry::array_range(RegionRange regions) const {
  uint64_t from = regions.first * region_size_bytes;
  uint64_t to = std::min(member_bytes, from + regions.count * region_size_bytes);
  if (shape.chunk_bytes == 0) return {from, to - from};
  // A chunk whose copies lie in two rows belongs to both.
  uint64_t first = shape.chunks(from / shape.chunk_bytes);
  uint64_t rows = to / shape.chunk_bytes;
  uint64_t end = shape.chunks(rows);
  if (end * shape.chunk_bytes < size_bytes() && shape.level->place(shape, end, 0).row < rows) ++end;
  return {first * shape.chunk_bytes, (end - first) * shape.chunk_bytes};
}

uint64_t auto_region_size_bytes(const Shape& shape, uint64_t member_bytes) {
  uint64_t size = std::max(kRegionMinBytes, shape.chunk_bytes);
  while (div_up(member_bytes, size) > kBitmapPagesAuto * kRegionsPerPage) size *= 2;
  return size;
}

uint64_t Geometry::data_extent_bytes() const {
  return shape.level->parity > 0 ? stripes_extent_bytes(shape, member_bytes) : member_bytes;
}

// With parity a stripe may lie in any row.
uint64_t Geometry::checked_blocks() const {
  if (!checked()) return 0;
  bool parity = shape.level->parity > 0;
  uint64_t bytes = parity ? stripe_rows(shape, member_bytes) * shape.chunk_bytes : member_bytes;
  return bytes / kCheckedBlockBytes;
}

Status check_region_size(const Shape& shape, uint64_t region_size_bytes) {
  uint64_t least = std::max(kRegionMinBytes, shape.chunk_bytes);
  if (is_power_of_two(region_size_bytes) && region_size_bytes >= least &&
      region_size_bytes <= kRegionMaxBytes) {
    return {};
  }
  return error(Code::k_invalid_argument, "region size {} is not a power of two from {} to {}",
               region_size_bytes, least, kRegionMaxBytes);
}

// The most data that fit such room.
static uint64_t fit_bytes(Geometry geometry, uint64_t room_bytes) {
  uint64_t unit = std::max(kRegionMinBytes, geometry.shape.chunk_bytes);
  uint64_t least = 0;  // in units: what fits, and what does not
  uint64_t most = room_bytes / unit + 1;
  while (least + 1 < most) {
    uint64_t middle = least + (most - least) / 2;
    geometry.member_bytes = middle * unit;
    (geometry.extent_bytes() <= room_bytes ? least : most) = middle;
  }
  return least * unit;
}

Result<Geometry> plan_geometry(const Shape& shape, std::span<const GeometryDevice> devices,
                               uint64_t region_size_bytes, Integrity integrity) {
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
  Geometry geometry{.shape = shape, .integrity = integrity};
  geometry.member_bytes = fit_bytes(geometry, room);
  geometry.region_size_bytes = region_size_bytes != 0
                                   ? region_size_bytes
                                   : auto_region_size_bytes(shape, geometry.member_bytes);
  if (geometry.size_bytes() == 0) {
    return error(Code::k_no_space, "chunks of {} bytes do not fit members of {} bytes",
                 shape.chunk_bytes, room);
  }
  if (shape.level->parity > 0 && geometry.member_bytes / shape.chunk_bytes > kStripesMax) {
    return error(Code::k_invalid_argument,
                 "chunks of {} bytes make more than {} stripes of members of {} bytes: take larger "
                 "ones",
                 shape.chunk_bytes, kStripesMax, room);
  }
  BB_TRY(check_region_size(shape, geometry.region_size_bytes));
  if (geometry.pages() > kBitmapPagesMax) {
    return error(Code::k_invalid_argument,
                 "region size {} needs a bitmap of {} pages (max {}): use {} or more",
                 region_size_bytes, geometry.pages(), kBitmapPagesMax,
                 auto_region_size_bytes(shape, geometry.member_bytes));
  }
  return geometry;
}

}  // namespace bb::raid
