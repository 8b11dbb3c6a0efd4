// SPDX-License-Identifier: Apache-2.0
#include "raid/geometry.h"

#include <gtest/gtest.h>

namespace bb::raid {
namespace {

const Shape kMirror = *parse_shape("1.2", 0);

TEST(Geometry, RegionSizeKeepsTheBitmapSmall) {
  struct Case {
    uint64_t size, region, pages;
  };
  const Case cases[] = {{MiB, 64 * KiB, 1},
                        {GiB, 64 * KiB, 1},
                        {15 * GiB, 64 * KiB, 8},
                        {16 * GiB, 128 * KiB, 5},
                        {uint64_t{16} * 1024 * GiB, 128 * MiB, 5}};
  for (const Case& c : cases) {
    Geometry geometry{.shape = kMirror, .member_bytes = c.size};
    geometry.region_size_bytes = auto_region_size_bytes(kMirror, c.size);
    EXPECT_EQ(geometry.region_size_bytes, c.region) << c.size;
    EXPECT_EQ(geometry.pages(), c.pages) << c.size;
  }
}

TEST(Geometry, PartsOfAMemberNeverOverlap) {
  for (uint64_t size = 2 * MiB + 4 * KiB; size < 3 * MiB; size += 512) {
    uint64_t room = data_room_bytes(size);
    ASSERT_GT(room, 0u) << size;
    EXPECT_LE(kDataOffsetBytes + room, superblock_b_offset_bytes(size));
    EXPECT_LE(superblock_b_offset_bytes(size) + kSuperblockBytes, size);
    EXPECT_EQ(superblock_b_offset_bytes(size) % (64 * KiB), 0u);
  }
  EXPECT_LE(kBitmapOffsetBytes + kBitmapPagesMax * kBitmapPageBytes, kDataOffsetBytes);
  EXPECT_EQ(data_room_bytes(2 * MiB), 0u);
}

TEST(Geometry, Plans) {
  std::vector<GeometryDevice> devices = {{"a", 64 * MiB, 512}, {"b", 65 * MiB, 512}};
  auto plan = plan_geometry(kMirror, devices, 0, Integrity::kNone);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(plan->size_bytes(), 64 * MiB - 64 * KiB - MiB);  // copy B is in the last 64 KiB
  EXPECT_EQ(plan->range_of(65535, 2).count, 2u);
  EXPECT_EQ(plan->range_of(65536, 65536).first, 1u);
  EXPECT_EQ(plan->range_of(65536, 65536).count, 1u);

  devices[1].block_size_bytes = 4096;
  EXPECT_EQ(plan_geometry(kMirror, devices, 0, Integrity::kNone).status().text(),
            "b has blocks of 4096 bytes, but a has blocks of 512: all members need the same");
  devices[1] = {"b", MiB, 512};
  EXPECT_EQ(plan_geometry(kMirror, devices, 0, Integrity::kNone).code(), Code::k_no_space);
  EXPECT_EQ(plan_geometry(kMirror, devices, 0, Integrity::kNone).status().text(),
            "b has 1048576 bytes: too small for a member, which needs 2101248");
  devices = {{"a", uint64_t{1024} * GiB, 512}};
  EXPECT_EQ(plan_geometry(kMirror, devices, 64 * KiB, Integrity::kNone).code(),
            Code::k_invalid_argument);
  EXPECT_EQ(plan_geometry(kMirror, devices, 100000, Integrity::kNone).code(),
            Code::k_invalid_argument);
}

// A page of checksums for each 1008 blocks follows the data, and nothing overlaps.
TEST(Geometry, ChecksumsFit) {
  for (uint64_t size : {3 * MiB, 8 * MiB, 64 * MiB, 100 * GiB, 16384 * GiB}) {
    std::vector<GeometryDevice> devices = {{"a", size, 512}, {"b", size, 512}};
    auto plan = plan_geometry(kMirror, devices, 0, Integrity::kCrc32c);
    ASSERT_TRUE(plan.ok()) << plan.status().to_string();
    uint64_t room = data_room_bytes(size);
    EXPECT_LE(plan->extent_bytes(), room) << size;
    EXPECT_GE(plan->checksum_offset_bytes(0), plan->data_offset_bytes + plan->member_bytes);
    EXPECT_GE(plan->checksum_pages() * kChecksumsPerPage, plan->member_bytes / kCheckedBlockBytes);
    Geometry more = *plan;
    more.member_bytes += kRegionMinBytes;
    EXPECT_GT(more.extent_bytes(), room) << size;
  }
}

// The regions of a range hold all its copies, few others, and are found again from the regions.
TEST(Geometry, RegionsAndRangesOfEveryShape) {
  for (const char* text :
       {"0.3", "1.3", "1E.3", "1E.5", "10.4", "10.5.3", "10.6.3", "5.4", "6.6"}) {
    for (uint64_t chunk : {4 * KiB, 64 * KiB, 128 * KiB}) {
      Geometry geometry{.shape = *parse_shape(text, chunk), .member_bytes = 2 * MiB};
      geometry.region_size_bytes = 128 * KiB;
      const Shape& shape = geometry.shape;
      uint64_t size = geometry.size_bytes();
      auto regions_of = [&](uint64_t offset) {
        std::vector<uint64_t> regions;
        for (uint32_t copy = 0; copy < shape.copies; ++copy) {
          CopyPlace place = copy_place(shape, offset, copy);
          ASSERT_LT(place.offset_bytes, geometry.member_bytes) << text;
          uint64_t region = place.offset_bytes / geometry.region_size_bytes;
          for (uint64_t length : {uint64_t{512}, uint64_t{8192}, uint64_t{400'000}}) {
            length = std::min(length, size - offset);
            RegionRange range = geometry.range_of(offset, length);
            ASSERT_GE(region, range.first) << text << " " << offset;
            ASSERT_LT(region, range.first + range.count) << text << " " << offset;
            ASSERT_LE(range.first + range.count, geometry.regions());
          }
          ArrayRange range = geometry.array_range({region, 1});
          ASSERT_GE(offset, range.offset_bytes) << text << " " << region;
          ASSERT_LT(offset, range.offset_bytes + range.length_bytes) << text << " " << region;
          ASSERT_LE(range.offset_bytes + range.length_bytes, size);
          // Not more than the region's rows and a chunk that begins or ends in others.
          uint64_t rows_bytes = shape.capacity_bytes(geometry.region_size_bytes);
          ASSERT_LE(range.length_bytes, rows_bytes + 2 * shape.chunk_bytes);
        }
      };
      for (uint64_t offset = 0; offset < size; offset += 512) regions_of(offset);
    }
  }
}

}  // namespace
}  // namespace bb::raid
