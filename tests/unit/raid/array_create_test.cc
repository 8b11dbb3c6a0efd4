// SPDX-License-Identifier: Apache-2.0
// What an array refuses, and that a creation which fails leaves nothing behind.
#include "array_world.h"

namespace bb::raid {
namespace {

TEST(Array, RefusedRequestsSayWhyAndChangeNothing) {
  struct Case {
    const char* name;
    std::function<void(World&, ArrayCreate&)> edit;
    Code code;
    const char* text;
  };
  const Case cases[] = {
      {"one member", [](World&, ArrayCreate& c) { c.members.pop_back(); }, Code::k_invalid_argument,
       "RAID 1: 1 members, and 2 to 8 are allowed"},
      {"no name", [](World&, ArrayCreate& c) { c.name.clear(); }, Code::k_invalid_argument,
       "a name of 0 bytes is not 1 to 64 long"},
      {"twice",
       [](World& w, ArrayCreate& c) { c.members.push_back(MemberDevice::borrow(*w.drives[0])); },
       Code::k_already_exists, "drive0 is listed twice, as member 0 and member 2"},
      {"too small",
       [](World& w, ArrayCreate& c) {
         c.members.push_back(MemberDevice::borrow(w.add_drive(MiB)));
       },
       Code::k_no_space, "drive2 has 1048576 bytes: too small for a member, which needs 2101248"},
      {"block sizes",
       [](World& w, ArrayCreate& c) {
         c.members.push_back(MemberDevice::borrow(w.add_drive(kDriveBytes, 4096)));
       },
       Code::k_invalid_argument, "drive2 has blocks of 4096 bytes, but drive0 has blocks of 512"},
      {"region size", [](World&, ArrayCreate& c) { c.region_size_bytes = 5000; },
       Code::k_invalid_argument, "region size 5000 is not a power of two"},
      {"region below chunk",
       [](World& w, ArrayCreate& c) {
         c.level = RaidLevel::k10;
         c.chunk_bytes = 256 * KiB;
         c.region_size_bytes = 64 * KiB;
         for (int i = 0; i < 2; ++i) c.members.push_back(MemberDevice::borrow(w.add_drive()));
       },
       Code::k_invalid_argument, "region size 65536 is not a power of two from 262144"},
      {"chunks of a mirror", [](World&, ArrayCreate& c) { c.chunk_bytes = 65536; },
       Code::k_invalid_argument, "RAID 1 has no chunks"},
      {"1E of two", [](World&, ArrayCreate& c) { c.level = RaidLevel::k1e; },
       Code::k_invalid_argument, "RAID 1E: 2 members, and 3 to"},
      {"parity of two", [](World&, ArrayCreate& c) { c.level = RaidLevel::k5; },
       Code::k_invalid_argument, "RAID 5: 2 members, and 3 to 64 are allowed"},
  };
  for (const Case& c : cases) {
    World world;
    ArrayCreate what = world.plan();
    c.edit(world, what);
    auto made = world.run(Array::create(world.context, std::move(what), &world.authority));
    ASSERT_FALSE(made.ok()) << c.name;
    EXPECT_EQ(made.code(), c.code) << c.name;
    EXPECT_NE(made.status().text().find(c.text), std::string::npos) << made.status().text();
    for (auto& drive : world.drives) EXPECT_EQ(drive->writes, 0u) << c.name;
    EXPECT_TRUE(world.authority.records.empty());
  }
}

TEST(Array, ADriveInUseIsRefusedUnlessForced) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.stop());
  Status again = world.create();
  EXPECT_EQ(again.code(), Code::k_already_exists);
  EXPECT_NE(again.text().find("drive0 is member 0 of array \"db\""), std::string::npos);
  ArrayCreate what = world.plan();
  what.force = true;
  auto made = world.run(Array::create(world.context, std::move(what), &world.authority));
  ASSERT_OK(made.status());
  world.array = std::move(made).value();
}

Task<Code> superblock_code(FakeDrive* drive) { co_return (co_await read_superblock(drive)).code(); }

// EIO once at each I/O of create: it fails cleanly and leaves no array behind.
TEST(Array, CreateFailsCleanlyAtEveryStep) {
  int runs = 0;
  for (int fail_at = 0;; ++fail_at) {
    World world;
    int seen = 0;
    bool injected = false;
    for (auto& drive : world.drives) {
      drive->fault = [&](const io::IoRequest& io) {
        if (io.op == io::IoOp::kRead || seen++ != fail_at) return Status();
        injected = true;
        return error(Code::k_io_error, "planted");
      };
    }
    Status status = world.create();
    for (auto& drive : world.drives) drive->fault = nullptr;
    if (!injected) {
      EXPECT_TRUE(status.ok()) << status.to_string();
      break;
    }
    if (status.ok()) {
      // After the record was there: the array lives with it.
      EXPECT_EQ(world.authority.records.size(), 1u);
      break;
    }
    ++runs;
    EXPECT_EQ(status.code(), Code::k_io_error) << status.to_string();
    EXPECT_TRUE(world.authority.records.empty());
    for (auto& drive : world.drives) {
      EXPECT_EQ(world.run(superblock_code(drive.get())), Code::k_not_found) << fail_at;
    }
    ASSERT_OK(world.create());
  }
  EXPECT_GE(runs, 10);
}

}  // namespace
}  // namespace bb::raid
