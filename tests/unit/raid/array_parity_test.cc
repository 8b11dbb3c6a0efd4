// SPDX-License-Identifier: Apache-2.0
// Arrays with parity as their hosts see them: what is lost, what comes back, what a crash leaves.
#include "array_content.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 16 * KiB;
constexpr const char* kShapes[] = {"5.3", "6.4"};

std::vector<size_t> all_but(const World& world, uint64_t lost) {
  std::vector<size_t> which;
  for (size_t i = 0; i < world.drives.size(); ++i) {
    if ((lost >> i & 1) == 0) which.push_back(i);
  }
  return which;
}

TEST(ParityArray, AnyMembersThatItCanLoseMayBeAbsent) {
  for (const char* raid : kShapes) {
    World world(raid, kChunk);
    ASSERT_OK(world.create());
    Content content(world);
    content.write_many(120);
    ASSERT_OK(content.write(0, 1 * MiB));  // whole stripes
    content.expect_reads(raid);
    ASSERT_OK(world.stop());
    // The record of before each time: nobody's absence is remembered.
    auto record = world.authority.records;
    for (uint64_t lost = 0; lost < uint64_t{1} << world.drives.size(); ++lost) {
      world.authority.records = record;
      Status status = world.assemble(all_but(world, lost));
      ASSERT_EQ(status.ok(), world.shape.survives(lost))
          << raid << " " << lost << ": " << status.to_string();
      if (!status.ok()) continue;
      content.expect_reads(raid);
      ASSERT_OK(world.stop());
    }
  }
}

TEST(ParityArray, AMemberThatComesBackGetsWhatItMissed) {
  for (const char* raid : kShapes) {
    World world(raid, kChunk);
    ASSERT_OK(world.create());
    Content content(world);
    content.write_many(40);
    ASSERT_OK(world.flush());
    EXPECT_EQ(world.dirty_at_last(), 0u);
    ASSERT_OK(world.run(world.array->fail_member(world.member(1), "test")));
    EXPECT_EQ(world.array->describe().state, "online (degraded)");
    uint64_t before = world.array->describe().resynced_bytes;
    for (uint64_t i = 0; i < 8; ++i) ASSERT_OK(content.write(640 * KiB + 8 * KiB * i, 8 * KiB));
    content.expect_reads("degraded");
    ASSERT_OK(world.run(world.array->readmit_member(world.member(1))));
    ASSERT_OK(world.in_sync());
    uint64_t copied = world.array->describe().resynced_bytes - before;
    EXPECT_GT(copied, 0u) << raid;
    EXPECT_LE(copied, 2 * kRegion) << raid;  // 64 KiB in a row
    // Without others its blocks count.
    ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
    content.expect_reads(raid);
  }
}

TEST(ParityArray, AReplacementIsBuiltFromTheOthers) {
  World world("5.3", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  content.write_many(40);
  FakeDrive& fresh = world.add_drive();
  ASSERT_OK(world.run(world.array->replace_member(world.member(2), MemberDevice::borrow(fresh))));
  content.write_many(20);  // while it is built
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  content.expect_reads("replaced");
}

// Crashes at some point of many writes, with and without power; what was acknowledged is there,
// also without a member.
TEST(ParityArray, NothingAcknowledgedIsLostInACrash) {
  for (const char* raid : kShapes) {
    World world(raid, kChunk);
    ASSERT_OK(world.create());
    Content content(world);
    for (int crash = 0; crash < 4; ++crash) {
      content.write_many(25);
      bool power = crash % 2 != 0;
      if (power) ASSERT_OK(world.flush());
      world.crash(power);
      ASSERT_OK(world.assemble(all_but(world, 0)));
      content.expect_reads(raid);
    }
    world.crash(false);
    ASSERT_OK(world.assemble(all_but(world, uint64_t{1} << 2)));
    content.expect_reads("without a member");
  }
}

// The store cannot commit that a member is gone: writes are suspended until their deadline, nothing
// is acknowledged, and when the store answers again the array goes on by itself.
TEST(ParityArray, WritesWaitForTheStoreAndGoOnAfterIt) {
  World world("5.4", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  content.write_many(30);
  ASSERT_OK(world.flush());
  world.authority.unreachable = true;
  world.drives[1]->lose_connection();
  uint64_t began_ns = world.reactor->now_ns();
  std::vector<std::byte> data(8 * KiB, std::byte{7});
  Status status = world.run(World::write_task(world.array.get(), 0, &data, false));
  EXPECT_EQ(status.code(), Code::k_unavailable) << status.to_string();
  EXPECT_GE(world.reactor->now_ns() - began_ns, world.options.commit_wait_ns);
  world.authority.unreachable = false;
  status = world.run(World::write_task(world.array.get(), 0, &data, false));
  ASSERT_OK(status);
  std::ranges::copy(data, content.expected.begin());
  content.expect_reads("after");
  EXPECT_EQ(world.array->describe().state, "online (degraded)");
  world.drives[1]->reconnect(false);
  ASSERT_OK(world.run(world.array->readmit_member(world.member(1))));
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  content.expect_reads("rebuilt");
}

TEST(ParityArray, AnUnreadableSectorIsWorkedOut) {
  World world("6.4", kChunk);
  ASSERT_OK(world.create());
  Content content(world);
  ASSERT_OK(content.write(0, 512 * KiB));
  for (size_t i : {0u, 1u}) {
    world.drives[i]->fault = [](const io::IoRequest& request) {
      bool data = request.offset_bytes >= kDataOffsetBytes && request.op == io::IoOp::kRead;
      return data ? error(Code::k_io_error, "medium") : ok_status();
    };
  }
  for (uint64_t at = 0; at < 512 * KiB; at += 64 * KiB) {
    std::vector<std::byte> data(64 * KiB);
    ASSERT_OK(world.run(World::read_task(world.array.get(), at, &data)));
    EXPECT_TRUE(std::ranges::equal(data, ConstBytes(content.expected).subspan(at, data.size())));
  }
  EXPECT_EQ(world.array->describe().state, "online");
  world.drives[2]->fault = world.drives[0]->fault;
  EXPECT_EQ(world.read(0, 64 * KiB), -2);
}

}  // namespace
}  // namespace bb::raid
