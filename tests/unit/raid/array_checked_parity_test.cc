// SPDX-License-Identifier: Apache-2.0
// Arrays with parity and integrity: what drives return that is not what was written is neither
// passed on nor worked into parity.
#include "checked_world.h"
#include "raid/stripe_plan.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 16 * KiB;
constexpr const char* kShapes[] = {"5.3", "5.5", "6.4", "6.6"};

// Stripes are written in parts here, so that stripe i lies in row i.
struct ParityWorld : CheckedWorld {
  explicit ParityWorld(const char* raid) : CheckedWorld(raid, kChunk) {}
  uint64_t stripe_bytes() const { return kChunk * shape.data_chunks(); }
  // Where block `block` of a stripe lies on its member.
  CopyPlace block_place(uint64_t stripe, uint32_t block, uint64_t within) const {
    return {block_slot(shape, stripe, block), stripe * kChunk + within};
  }
  void rot_block(uint64_t stripe, uint32_t block, uint64_t within) {
    CopyPlace at = block_place(stripe, block, within);
    put_on_drive(at.slot, at.offset_bytes, 1, on_drive(at.slot, at.offset_bytes) ^ 0x40);
  }
  Status fill_stripes(uint64_t count, int value) {
    for (uint64_t at = 0; at < count * stripe_bytes(); at += 8 * KiB) {
      Status status = write(at, 8 * KiB, value);
      if (!status.ok()) return status;
    }
    return {};
  }
  std::vector<size_t> all() const {
    std::vector<size_t> which(drives.size());
    for (size_t i = 0; i < which.size(); ++i) which[i] = i;
    return which;
  }
  uint64_t errors_of_all() {
    uint64_t count = 0;
    for (const ArrayMemberInfo& member : array->describe().members) count += member.checksum_errors;
    return count;
  }
};

TEST(CheckedParity, ContentsStayAndAreFoundAgainWithAnyMembersAway) {
  for (const char* raid : kShapes) {
    ParityWorld world(raid);
    ASSERT_OK(world.create());
    Content content(world);
    content.write_many(120);               // parts of blocks too
    ASSERT_OK(content.write(0, 1 * MiB));  // whole stripes
    content.write_many(40);
    content.expect_reads(raid);
    ASSERT_OK(world.stop());
    auto record = world.authority.records;
    for (uint64_t lost = 0; lost < uint64_t{1} << world.drives.size(); ++lost) {
      if (!world.shape.survives(lost)) continue;
      std::vector<size_t> there;
      for (size_t i = 0; i < world.drives.size(); ++i) {
        if ((lost >> i & 1) == 0) there.push_back(i);
      }
      world.authority.records = record;
      ASSERT_OK(world.assemble(there));
      EXPECT_EQ(world.array->describe().dirty_regions, 0u);
      content.expect_reads(fmt::format("{} without {:x}", raid, lost));
      EXPECT_EQ(world.errors_of_all(), 0u) << raid;
      ASSERT_OK(world.stop());
    }
  }
}

TEST(CheckedParity, AWrongBlockIsMadeAnewFromTheOthers) {
  for (const char* raid : kShapes) {
    ParityWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.fill_stripes(4, 3));
    for (uint32_t block = 0; block < world.shape.data_chunks(); ++block) {
      for (int value : {0x77, 0}) {  // rot, and a write that was lost
        CopyPlace at = world.block_place(2, block, 8 * KiB);
        world.put_on_drive(at.slot, at.offset_bytes, 512, value);
        EXPECT_EQ(world.read(0, 4 * world.stripe_bytes()), 3) << raid;
        EXPECT_EQ(world.on_drive(at.slot, at.offset_bytes), 3) << raid << " block " << block;
        EXPECT_GT(world.checksum_errors(at.slot), 0u);
      }
    }
  }
}

// A part of a stripe is written from what it was: if that is wrong, parity would hide it for ever.
TEST(CheckedParity, AWriteNextToAWrongBlockDoesNotKeepIt) {
  for (const char* raid : kShapes) {
    ParityWorld world(raid);
    for (uint32_t block = 0; block < world.shape.members; ++block) {
      for (uint64_t written : {uint64_t{0}, uint64_t{1}}) {
        ParityWorld fresh(raid);
        ASSERT_OK(fresh.create());
        ASSERT_OK(fresh.fill_stripes(2, 3));
        fresh.rot_block(1, block, 4 * KiB);
        uint64_t at = fresh.stripe_bytes() + written * kChunk + 4 * KiB;
        ASSERT_OK(fresh.write(at, 4 * KiB, 5));
        EXPECT_EQ(fresh.read(at, 4 * KiB), 5);
        EXPECT_EQ(fresh.read(fresh.stripe_bytes(), at - fresh.stripe_bytes()), 3) << raid;
        EXPECT_EQ(fresh.read(at + 4 * KiB, 2 * fresh.stripe_bytes() - at - 4 * KiB), 3);
        ASSERT_TRUE(fresh.scrub().ok());
        // Without any one member the others say the same.
        for (size_t lost = 0; lost < fresh.drives.size(); ++lost) {
          ASSERT_OK(fresh.run(fresh.array->fail_member(fresh.member(lost), "test")));
          EXPECT_EQ(fresh.read(at, 4 * KiB), 5) << raid << " " << block << " without " << lost;
          EXPECT_EQ(fresh.read(at + 4 * KiB, 4 * KiB), 3);
          ASSERT_OK(fresh.run(fresh.array->readmit_member(fresh.member(lost))));
          ASSERT_OK(fresh.in_sync());
        }
      }
    }
  }
}

TEST(CheckedParity, MoreWrongBlocksThanParityAreCorruptAndTheRestIsNot) {
  ParityWorld world("5.4");
  ASSERT_OK(world.create());
  ASSERT_OK(world.fill_stripes(2, 3));
  world.rot_block(1, 0, 0);
  world.rot_block(1, 1, 0);
  world.rot_block(1, 2, 8 * KiB);  // of another column
  std::vector<std::byte> data(4 * KiB);
  uint64_t at = world.stripe_bytes();
  Status status = world.run(World::read_task(world.array.get(), at, &data));
  EXPECT_EQ(status.code(), Code::k_corrupt) << status.to_string();
  EXPECT_NE(status.text().find("stripe 1, byte 0 of its chunks (byte 1064960 of members)"),
            std::string::npos)
      << status.text();
  EXPECT_NE(status.text().find("not what was written"), std::string::npos) << status.text();
  EXPECT_EQ(world.read(at + 4 * KiB, kChunk - 4 * KiB), 3);
  EXPECT_EQ(world.read(at + 2 * kChunk, kChunk), 3);  // it is right itself in the first column
  // Written as a whole it is right again.
  ASSERT_OK(world.write(at, world.stripe_bytes(), 5));
  EXPECT_EQ(world.read(at, world.stripe_bytes()), 5);
}

TEST(CheckedParity, OneAbsentAndOneWrongIsWhatTwoParitiesBear) {
  ParityWorld world("6.5");
  ASSERT_OK(world.create());
  ASSERT_OK(world.fill_stripes(3, 3));
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  for (uint64_t stripe = 0; stripe < 3; ++stripe) {
    for (uint32_t block = 0; block < world.shape.data_chunks(); ++block) {
      if (world.block_place(stripe, block, 0).slot != 0)
        world.rot_block(stripe, block, block * 4096);
    }
  }
  EXPECT_EQ(world.read(0, 3 * world.stripe_bytes()), 3);
  // Rebuilt from what is right.
  world.rot_block(1, world.block_place(1, 0, 0).slot == 0 ? 1 : 0, 12 * KiB);
  ASSERT_OK(world.run(world.array->readmit_member(world.member(0))));
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.run(world.array->fail_member(world.member(2), "test")));
  ASSERT_OK(world.run(world.array->fail_member(world.member(3), "test")));
  EXPECT_EQ(world.read(0, 3 * world.stripe_bytes()), 3);
}

TEST(CheckedParity, WhatIsKnownOfBlocksOutlivesTheProcess) {
  for (const char* raid : kShapes) {
    for (bool clean : {true, false}) {
      ParityWorld world(raid);
      ASSERT_OK(world.create());
      ASSERT_OK(world.fill_stripes(2, 3));
      ASSERT_OK(world.flush());
      ASSERT_EQ(world.dirty_at_last(), 0u);
      uint64_t far = 40 * world.stripe_bytes();  // another region, which is dirty
      ASSERT_OK(world.write(far, 8 * KiB, 4));
      ASSERT_OK(world.write(far + 8 * world.stripe_bytes(), world.stripe_bytes(), 6));
      if (clean) {
        ASSERT_OK(world.stop());
      } else {
        world.crash(false);
      }
      world.rot_block(0, 0, 0);
      world.rot_block(1, 1, 4 * KiB);
      ASSERT_OK(world.assemble(world.all()));
      EXPECT_EQ(world.read(0, 2 * world.stripe_bytes()), 3) << raid << clean;
      EXPECT_EQ(world.read(far, 8 * KiB), 4);
      EXPECT_EQ(world.read(far + 8 * world.stripe_bytes(), world.stripe_bytes()), 6);
      ASSERT_OK(world.in_sync());
      EXPECT_EQ(world.errors_of_all(), 2u) << raid << clean;
    }
  }
}

// Both copies of a page, and a block of the same drive: its checksum is gone, those of the others
// and parity are not.
TEST(CheckedParity, DamagedChecksumsAreMadeAnew) {
  for (const char* raid : kShapes) {
    ParityWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.fill_stripes(4, 3));
    ASSERT_OK(world.stop());
    Geometry geometry = world.authority.records.begin()->second.geometry();
    uint64_t at = geometry.checksum_offset_bytes(0) + 2000 - kDataOffsetBytes;
    uint32_t slot = world.block_place(1, 0, 0).slot;
    world.put_on_drive(slot, at, 8000 - 2000, 0x5a);
    world.rot_block(1, 0, 8 * KiB);
    ASSERT_OK(world.assemble(world.all()));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(world.read(0, 4 * world.stripe_bytes()), 3) << raid;
    ASSERT_OK(world.in_sync());
    EXPECT_EQ(world.on_drive(slot, kChunk + 8 * KiB), 3);
    ASSERT_EQ(world.dirty_at_last(), 0u);
    ASSERT_OK(world.stop());
    ASSERT_OK(world.assemble(world.all()));
    world.rot_block(1, 0, 4 * KiB);
    EXPECT_EQ(world.read(0, 4 * world.stripe_bytes()), 3);
  }
}

TEST(CheckedParity, AScrubFindsDataAndParity) {
  for (const char* raid : kShapes) {
    ParityWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.fill_stripes(6, 3));
    ScrubReport clean = *world.scrub();
    EXPECT_EQ(clean.checked_bytes, world.array->info().size_bytes);
    EXPECT_EQ(clean.repaired_blocks + clean.unrepaired_blocks, 0u);
    for (uint32_t block = 0; block < world.shape.members; ++block) {
      world.rot_block(block, block, 4 * KiB);
    }
    ScrubReport report = *world.scrub();
    EXPECT_EQ(report.repaired_blocks, std::min<uint64_t>(6, world.shape.members)) << raid;
    EXPECT_EQ(report.unrepaired_blocks, 0u);
    EXPECT_EQ(report.findings[1].offset_bytes, world.stripe_bytes() + kChunk + 4 * KiB);
    EXPECT_EQ(world.scrub()->repaired_blocks, 0u);
    EXPECT_EQ(world.read(0, 6 * world.stripe_bytes()), 3);
  }
}

// Two parities tell which block is wrong, one does not: there nothing is guessed.
TEST(CheckedParity, WithoutChecksumsAScrubRewritesWhatParityProves) {
  for (const char* raid : {"5.4", "6.5"}) {
    ParityWorld world(raid);
    world.integrity = Integrity::kNone;
    ASSERT_OK(world.create());
    ASSERT_OK(world.fill_stripes(2, 3));
    world.rot_block(1, 1, 4 * KiB);
    ScrubReport report = *world.scrub();
    bool two = world.shape.level->parity == 2;
    EXPECT_EQ(report.repaired_blocks, two ? 1u : 0u);
    EXPECT_EQ(report.unrepaired_blocks, two ? 0u : 1u);
    CopyPlace at = world.block_place(1, 1, 4 * KiB);
    EXPECT_EQ(world.on_drive(at.slot, at.offset_bytes), two ? 3 : 3 ^ 0x40);
  }
}

TEST(CheckedParity, MemoryOfChecksumsIsBounded) {
  ParityWorld world("5.3");
  world.drives.clear();
  for (int i = 0; i < 3; ++i) world.add_drive(64 * MiB);
  world.options.checksum_pages_max = 2;
  ASSERT_OK(world.create());
  for (uint64_t at = 0; at < 60; ++at) ASSERT_OK(world.write(2 * at * MiB, 8 * KiB, int(at + 1)));
  for (uint64_t at = 0; at < 60; ++at) EXPECT_EQ(world.read(2 * at * MiB, 8 * KiB), int(at + 1));
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble(world.all()));
  for (uint64_t at = 0; at < 60; ++at) EXPECT_EQ(world.read(2 * at * MiB, 8 * KiB), int(at + 1));
  EXPECT_EQ(world.errors_of_all(), 0u);
}

}  // namespace
}  // namespace bb::raid
