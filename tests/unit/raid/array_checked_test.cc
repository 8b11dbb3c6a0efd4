// SPDX-License-Identifier: Apache-2.0
// Arrays with integrity: what drives return that is not what was written is never passed on.
#include "checked_world.h"

namespace bb::raid {
namespace {

constexpr const char* kCopies[] = {"1.2", "1.3", "1E.3", "10.4", "10.5.3"};

TEST(CheckedArray, ContentsStayAndAreFoundAgain) {
  for (const char* raid : kCopies) {
    CheckedWorld world(raid);
    ASSERT_OK(world.create());
    Content content(world);
    content.write_many(200);  // parts of blocks too
    content.expect_reads(raid);
    content.expect_on_drives(raid);
    std::vector<size_t> all(world.drives.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    ASSERT_OK(world.stop());
    ASSERT_OK(world.assemble(all));
    EXPECT_EQ(world.array->describe().dirty_regions, 0u);
    content.expect_reads(std::string(raid) + " again");
    for (size_t slot = 0; slot < all.size(); ++slot) EXPECT_EQ(world.checksum_errors(slot), 0u);
  }
}

// Rot, then a lost write: an older version of the block is as wrong as any other.
TEST(CheckedArray, AWrongBlockIsServedFromAnotherCopyAndRewritten) {
  for (const char* raid : kCopies) {
    CheckedWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 256 * KiB, 3));
    for (uint32_t copy = 0; copy < world.shape.copies; ++copy) {
      for (int value : {0x77, 0}) {
        CopyPlace at = world.place(40 * KiB, copy);
        world.put_on_drive(at.slot, at.offset_bytes, 512, value);
        for (int i = 0; i < 8; ++i) EXPECT_EQ(world.read(32 * KiB, 16 * KiB), 3) << raid;
        EXPECT_EQ(world.read(0, 256 * KiB), 3) << raid;
        EXPECT_EQ(world.on_drive(at.slot, at.offset_bytes), 3) << raid << " copy " << copy;
        EXPECT_GT(world.checksum_errors(at.slot), 0u);
      }
    }
  }
}

TEST(CheckedArray, WithoutARightCopyAReadIsCorrupt) {
  CheckedWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 64 * KiB, 3));
  world.rot(20 * KiB, 0);
  world.rot(20 * KiB, 1);
  std::vector<std::byte> data(4 * KiB);
  Status status = world.run(World::read_task(world.array.get(), 20 * KiB, &data));
  EXPECT_EQ(status.code(), Code::k_corrupt) << status.to_string();
  EXPECT_NE(status.text().find("1 of 1 blocks read from byte 1069056 on"), std::string::npos)
      << status.text();
  EXPECT_EQ(world.read(0, 20 * KiB), 3);
  EXPECT_EQ(world.read(24 * KiB, 40 * KiB), 3);
  // A part of it cannot be written, all of it can.
  EXPECT_EQ(world.write(20 * KiB, 512, 5).code(), Code::k_corrupt);
  ASSERT_OK(world.write(20 * KiB, 4 * KiB, 5));
  EXPECT_EQ(world.read(20 * KiB, 4 * KiB), 5);
}

TEST(CheckedArray, WhatIsKnownOfBlocksOutlivesTheProcess) {
  for (bool clean : {true, false}) {
    CheckedWorld world("1.2");
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 64 * KiB, 3));
    ASSERT_OK(world.flush());
    ASSERT_EQ(world.dirty_at_last(), 0u);
    ASSERT_OK(world.write(2 * MiB, 64 * KiB, 4));  // this region is dirty
    if (clean) {
      ASSERT_OK(world.stop());
    } else {
      world.crash(false);
    }
    world.rot(20 * KiB, 0);
    world.rot(36 * KiB, 1);
    ASSERT_OK(world.assemble({0, 1}));
    EXPECT_EQ(world.read(0, 64 * KiB), 3);
    EXPECT_EQ(world.read(2 * MiB, 64 * KiB), 4);
    ASSERT_OK(world.in_sync());
    ASSERT_TRUE(world.scrub().ok());
    EXPECT_EQ(world.on_drive(0, 20 * KiB), 3);
    EXPECT_EQ(world.on_drive(1, 36 * KiB), 3);
  }
}

// A page of checksums that is damaged costs a comparison, no data.
TEST(CheckedArray, DamagedChecksumsAreMadeAnew) {
  CheckedWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 256 * KiB, 3));
  ASSERT_OK(world.stop());
  Geometry geometry = world.authority.records.begin()->second.geometry();
  uint64_t at = geometry.checksum_offset_bytes(0) + 2000 - kDataOffsetBytes;
  world.put_on_drive(1, at, 8000 - 2000, 0x5a);  // both copies
  world.rot(12 * KiB, 1);
  ASSERT_OK(world.assemble({0, 1}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(0, 256 * KiB), 3);
  ASSERT_OK(world.in_sync());
  EXPECT_EQ(world.on_drive(1, 12 * KiB), 3);
  world.rot(16 * KiB, 0);  // the new ones are good for something
  world.rot(24 * KiB, 1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(0, 256 * KiB), 3);
}

// A sector of one copy of a page that cannot be read costs neither the other copy nor any data.
TEST(CheckedArray, ChecksumsThatCannotBeReadAreNoLoss) {
  CheckedWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 64 * KiB, 3));
  ASSERT_EQ(world.dirty_at_last(), 0u);
  ASSERT_OK(world.write(1 * MiB, 64 * KiB, 4));  // so that both copies know of the first
  ASSERT_OK(world.stop());
  uint64_t at = world.authority.records.begin()->second.geometry().checksum_offset_bytes(0);
  for (uint64_t copy : {uint64_t{0}, uint64_t{1}}) {
    uint64_t bad = at + copy * kChecksumPageBytes + 512;
    world.drives[0]->fault = [bad](const io::IoRequest& request) {
      bool hit = request.op == io::IoOp::kRead && request.offset_bytes <= bad &&
                 bad < request.offset_bytes + request.length_bytes;
      return hit ? error(Code::k_io_error, "unreadable") : Status();
    };
    ASSERT_OK(world.assemble({0}));  // alone
    EXPECT_EQ(world.read(0, 64 * KiB), 3) << copy;
    ASSERT_OK(world.stop());
    world.drives[0]->fault = nullptr;
  }
}

TEST(CheckedArray, ScrubFindsAndMendsWhatNobodyReads) {
  for (const char* raid : kCopies) {
    CheckedWorld world(raid);
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 512 * KiB, 3));
    for (uint64_t at : {8 * KiB, 12 * KiB, 100 * KiB, 508 * KiB}) world.rot(at, at / KiB % 2);
    Result<ScrubReport> report = world.scrub();
    ASSERT_TRUE(report.ok()) << report.status().to_string();
    EXPECT_EQ(report->checked_bytes, world.array->info().size_bytes);
    EXPECT_EQ(report->repaired_blocks, 4u);
    EXPECT_EQ(report->unrepaired_blocks, 0u);
    ASSERT_EQ(report->findings.size(), 4u);
    EXPECT_EQ(report->findings[2].offset_bytes, 100 * KiB);
    for (uint32_t copy = 0; copy < world.shape.copies; ++copy) {
      CopyPlace place = world.place(100 * KiB, copy);
      EXPECT_EQ(world.on_drive(place.slot, place.offset_bytes), 3);
    }
    EXPECT_EQ(world.scrub()->repaired_blocks, 0u);
  }
}

TEST(CheckedArray, ScrubWritesNothingThatItCannotProve) {
  World world;  // no checksums
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 64 * KiB, 3));
  world.put_on_drive(1, 8 * KiB, 512, 9);
  Result<ScrubReport> report = world.run(world.array->scrub({}));
  ASSERT_TRUE(report.ok()) << report.status().to_string();
  EXPECT_EQ(report->repaired_blocks, 0u);
  ASSERT_EQ(report->unrepaired_blocks, 1u);
  EXPECT_EQ(report->findings[0].offset_bytes, 8 * KiB);
  EXPECT_EQ(world.on_drive(0, 8 * KiB), 3);
  EXPECT_EQ(world.on_drive(1, 8 * KiB), 9);
  Status status = world.run(world.array->scrub({.offset_bytes = 100})).status();
  EXPECT_EQ(status.code(), Code::k_invalid_argument) << status.to_string();
}

// Who comes back has the checksums of what it missed copied with the data.
TEST(CheckedArray, MembersThatReturnOrAreNewAreChecked) {
  CheckedWorld world("1.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 128 * KiB, 3));
  ASSERT_OK(world.run(world.array->fail_member(world.member(1), "test")));
  ASSERT_OK(world.write(64 * KiB, 64 * KiB, 4));
  ASSERT_OK(world.run(world.array->readmit_member(world.member(1))));
  ASSERT_OK(world.in_sync());
  world.rot(68 * KiB, 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(64 * KiB, 64 * KiB), 4);
  FakeDrive& fresh = world.add_drive();
  ASSERT_OK(
      world.run(world.array->replace_member(world.member(0), MemberDevice::borrow(fresh), true)));
  ASSERT_OK(world.in_sync());
  for (uint64_t at : {0 * KiB, 68 * KiB}) world.put_on_drive(1, at, 512, 0x66);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(0, 64 * KiB), 3);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(64 * KiB, 64 * KiB), 4);
}

TEST(CheckedArray, MemoryOfChecksumsIsBounded) {
  CheckedWorld world("1.2");
  world.drives.clear();
  for (int i = 0; i < 2; ++i) world.add_drive(64 * MiB);
  world.options.checksum_pages_max = 2;
  ASSERT_OK(world.create());
  for (uint64_t at = 0; at < 60; ++at) ASSERT_OK(world.write(at * MiB, 8 * KiB, int(at + 1)));
  for (uint64_t at = 0; at < 60; ++at) EXPECT_EQ(world.read(at * MiB, 8 * KiB), int(at + 1));
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({0, 1}));
  for (uint64_t at = 0; at < 60; ++at) EXPECT_EQ(world.read(at * MiB, 8 * KiB), int(at + 1));
  for (size_t slot : {size_t{0}, size_t{1}}) EXPECT_EQ(world.checksum_errors(slot), 0u);
}

TEST(CheckedArray, ItIsThereUnlessNobodyWantsIt) {
  for (const char* raid : {"10.4", "5.3", "0.2"}) {
    CheckedWorld world(raid);
    world.integrity.reset();  // not asked for
    ASSERT_OK(world.create());
    bool wanted = world.shape.redundant();
    EXPECT_EQ(world.array->describe().integrity, wanted ? Integrity::kCrc32c : Integrity::kNone);
  }
}

// Without another copy checksums still tell what is wrong.
TEST(CheckedArray, OneCopyIsCheckedToo) {
  CheckedWorld world("0.2");
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 128 * KiB, 3));
  ASSERT_EQ(world.dirty_at_last(), 0u);
  world.crash(false);
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.read(0, 128 * KiB), 3);
  world.rot(20 * KiB, 0);
  EXPECT_EQ(world.read(20 * KiB, 4 * KiB), -2);
  EXPECT_EQ(world.read(24 * KiB, 8 * KiB), 3);
}

}  // namespace
}  // namespace bb::raid
