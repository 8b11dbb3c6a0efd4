// SPDX-License-Identifier: Apache-2.0
#include "raid/geometry.h"

#include <gtest/gtest.h>

namespace bb::raid {
namespace {

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
    Geometry geometry{.size_bytes = c.size, .region_size_bytes = auto_region_size_bytes(c.size)};
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
  auto plan = plan_geometry(devices, 0);
  ASSERT_TRUE(plan.ok()) << plan.status().to_string();
  EXPECT_EQ(plan->size_bytes, 64 * MiB - 64 * KiB - MiB);  // copy B is in the last 64 KiB
  EXPECT_EQ(plan->range_of(65535, 2).count, 2u);
  EXPECT_EQ(plan->range_of(65536, 65536).first, 1u);
  EXPECT_EQ(plan->range_of(65536, 65536).count, 1u);

  devices[1].block_size_bytes = 4096;
  EXPECT_EQ(plan_geometry(devices, 0).status().text(),
            "b has blocks of 4096 bytes, but a has blocks of 512: all members need the same");
  devices[1] = {"b", MiB, 512};
  EXPECT_EQ(plan_geometry(devices, 0).code(), Code::k_no_space);
  EXPECT_EQ(plan_geometry(devices, 0).status().text(),
            "b has 1048576 bytes: too small for a member, which needs 2101248");
  devices = {{"a", uint64_t{1024} * GiB, 512}};
  EXPECT_EQ(plan_geometry(devices, 64 * KiB).code(), Code::k_invalid_argument);
  EXPECT_EQ(plan_geometry(devices, 100000).code(), Code::k_invalid_argument);
}

}  // namespace
}  // namespace bb::raid
