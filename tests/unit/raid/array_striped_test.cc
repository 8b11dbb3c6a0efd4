// SPDX-License-Identifier: Apache-2.0
// Arrays in chunks: where data go, what members may be lost, what is copied when they come back.
#include "array_content.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 16 * KiB;

TEST(StripedArray, EveryCopyIsWhereItsShapeSays) {
  for (const char* raid : {"0.1", "0.3", "1E.3", "10.3", "10.4", "10.4.3", "1E.5", "10.6.3"}) {
    World world(raid, kChunk);
    ASSERT_OK(world.create());
    EXPECT_EQ(world.array->info().size_bytes,
              world.shape.capacity_bytes(kDriveBytes - kDataOffsetBytes - 64 * KiB));
    Content content(world);
    content.write_many(150);
    content.expect_reads(raid);
    content.expect_on_drives(raid);
    std::vector<size_t> all(world.drives.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = all.size() - 1 - i;
    ASSERT_OK(world.stop());
    ASSERT_OK(world.assemble(all));
    content.expect_reads(std::string(raid) + " again");
  }
}

// Every set of members that the level can lose, one by one, and none that it cannot.
TEST(StripedArray, WhatTheShapeSurvivesTheArrayDoes) {
  for (const char* raid : {"1E.3", "10.4", "10.4.3", "1E.5"}) {
    uint32_t members = parse_shape(raid, kChunk)->members;
    for (uint64_t lost = 1; lost < uint64_t{1} << members; ++lost) {
      World world(raid, 64 * KiB);
      ASSERT_OK(world.create());
      Content content(world);
      ASSERT_OK(content.write(0, 1 * MiB));
      uint64_t failed = 0;
      for (uint32_t slot = 0; slot < members; ++slot) {
        if ((lost >> slot & 1) == 0) continue;
        Status status = world.run(world.array->fail_member(world.member(slot), "test"));
        bool may = world.shape.survives(failed | uint64_t{1} << slot);
        ASSERT_EQ(status.ok(), may) << raid << " " << lost << ": " << status.to_string();
        if (may) failed |= uint64_t{1} << slot;
      }
      ASSERT_OK(content.write(100'352, 300'032));
      content.expect_reads(raid);
    }
  }
}

TEST(StripedArray, OnlyWhatAMemberMissedIsCopiedBack) {
  for (const char* raid : {"1E.3", "10.4", "10.5.3"}) {
    World world(raid, kChunk);
    ASSERT_OK(world.create());
    Content content(world);
    content.write_many(40);
    EXPECT_EQ(world.dirty_at_last(), 0u);
    ASSERT_OK(world.run(world.array->fail_member(world.member(1), "test")));
    uint64_t before = world.array->describe().resynced_bytes;
    for (uint64_t i = 0; i < 8; ++i) ASSERT_OK(content.write(640 * KiB + 8 * KiB * i, 8 * KiB));
    ASSERT_OK(world.run(world.array->readmit_member(world.member(1))));
    ASSERT_OK(world.in_sync());
    uint64_t copied = world.array->describe().resynced_bytes - before;
    // 64 KiB of the array lie in two regions of a member at most, and a chunk may reach beyond.
    EXPECT_GT(copied, 0u) << raid;
    EXPECT_LE(copied, 2 * kRegion + 2 * kChunk) << raid;
    content.expect_reads(raid);
    content.expect_on_drives(raid);
  }
}

TEST(StripedArray, AnUnreadableSectorIsServedFromTheOtherCopyAndRewritten) {
  World world("10.4", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  ASSERT_OK(content.write(0, 256 * KiB));
  CopyPlace bad = copy_place(world.shape, 5 * kChunk, 0);
  uint64_t at = kDataOffsetBytes + bad.offset_bytes;
  bool mended = false;
  world.drives[bad.slot]->fault = [&](const io::IoRequest& request) {
    bool hit = request.offset_bytes <= at && at < request.offset_bytes + request.length_bytes;
    if (hit && request.op == io::IoOp::kWrite) mended = true;
    bool fails = hit && request.op == io::IoOp::kRead && !mended;
    return fails ? error(Code::k_io_error, "medium") : ok_status();
  };
  // Within what is read at once, and on its own: each copy is asked.
  for (uint64_t length : {80 * KiB, kChunk}) {
    mended = false;
    for (int i = 0; i < 4; ++i) {
      std::vector<std::byte> data(length);
      ASSERT_OK(world.run(World::read_task(world.array.get(), 5 * kChunk, &data)));
      EXPECT_TRUE(
          std::ranges::equal(data, ConstBytes(content.expected).subspan(5 * kChunk, length)));
    }
    EXPECT_TRUE(mended) << length;
  }
  world.drives[bad.slot]->fault = nullptr;  // the world outlives what it refers to
  EXPECT_EQ(world.state(bad.slot), MemberState::kInSync);
  EXPECT_GT(world.array->describe().members[bad.slot].repaired_ranges, 0u);
  EXPECT_EQ(world.array->describe().state, "online");
}

// The second of a pair fails while the first is away: the write fails, nobody else is blamed, and
// what was on the pair is still there.
TEST(StripedArray, TheLastCopyIsNotGivenUp) {
  World world("10.4", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  ASSERT_OK(content.write(0, 256 * KiB));
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  world.drives[1]->fault = [](const io::IoRequest& request) {
    return request.op == io::IoOp::kWrite ? error(Code::k_io_error, "write fault") : ok_status();
  };
  EXPECT_EQ(world.write(0, 512, 1).code(), Code::k_io_error);
  EXPECT_EQ(world.state(1), MemberState::kInSync);
  ASSERT_OK(content.write(kChunk, 512));  // of the other pair
  world.drives[1]->fault = nullptr;
  ASSERT_OK(content.write(0, 512));
  content.expect_reads("after");
}

// A whole pair goes away and comes back: the array waits, and then goes on with it.
TEST(StripedArray, APairThatComesBackIsTakenBack) {
  World world("10.4", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  ASSERT_OK(content.write(0, 256 * KiB));
  ASSERT_OK(world.flush());
  for (size_t i : {0u, 1u}) world.drives[i]->lose_connection();
  EXPECT_EQ(world.array->describe().state, "recover");
  EXPECT_EQ(world.read(0, 512), -2);
  for (size_t i : {0u, 1u}) world.drives[i]->reconnect(false);
  for (int i = 0; i < 200 && world.array->describe().state == "recover"; ++i) world.nap_ms(5);
  EXPECT_EQ(world.array->describe().state.substr(0, 6), "online");
  content.expect_reads("back");
  ASSERT_OK(content.write(0, 64 * KiB));
  content.expect_reads("written");
}

// Levels without redundancy have nothing to make equal, so no bitmap is written.
TEST(StripedArray, Level0WritesNoBitmapAndKeepsItsMembers) {
  World world("0.3", kChunk);
  ASSERT_OK(world.create(false));
  Content content(world);
  content.write_many(30);
  EXPECT_EQ(world.array->describe().dirty_regions, 0u);
  EXPECT_EQ(world.array->describe().bitmap_writes, 0u);
  EXPECT_EQ(world.run(world.array->fail_member(world.member(1), "test")).code(), Code::k_bad_state);
  world.drives[1]->fault = [](const io::IoRequest&) { return error(Code::k_io_error, "dead"); };
  EXPECT_EQ(world.read(kChunk, 512), -2);
  EXPECT_EQ(world.state(1), MemberState::kInSync);
  world.drives[1]->fault = nullptr;
  content.expect_reads("after");
}

TEST(StripedArray, TooFewMembersAtAssemblySayWhoIsAbsent) {
  World world("10.4", kChunk);
  ASSERT_OK(world.create());
  ASSERT_OK(world.stop());
  Status status = world.assemble({2, 3});
  EXPECT_EQ(status.code(), Code::k_unavailable);
  EXPECT_NE(status.text().find("recover: 2 of the 4 in-sync members of version 1 are absent "
                               "(drive0, drive1)"),
            std::string::npos)
      << status.text();
  ASSERT_OK(world.assemble({1, 2}));
}

}  // namespace
}  // namespace bb::raid
