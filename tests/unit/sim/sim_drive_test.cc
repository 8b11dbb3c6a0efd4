// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_drive.h"

#include <gtest/gtest.h>

#include "io/sync.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSize = 1u << 20;

class SimDriveTest : public ::testing::Test {
 protected:
  SimDriveTest() { connect(); }
  ~SimDriveTest() override {
    EXPECT_TRUE(world.block_on(cable->close()).ok());
    cable.reset();
  }
  void connect() { cable = drive.connect(world); }

  static std::vector<std::byte> filled(size_t length, int value) {
    return std::vector<std::byte>(length, static_cast<std::byte>(value));
  }
  static io::Task<Status> one(io::Device* device, io::IoOp op, uint64_t offset, Bytes bytes,
                              bool fua) {
    iovec iov{.iov_base = bytes.data(), .iov_len = bytes.size()};
    io::Device::Io io(*device, op, {offset, bytes.size()}, iov, fua);
    co_return co_await io;
  }
  Status write(uint64_t offset, int value, size_t length = 4096, bool fua = false) {
    auto data = filled(length, value);
    return world.block_on(one(cable.get(), io::IoOp::kWrite, offset, data, fua));
  }
  Status flush() { return world.block_on(one(cable.get(), io::IoOp::kFlush, 0, {}, false)); }
  Status read(uint64_t offset, Bytes into) {
    return world.block_on(one(cable.get(), io::IoOp::kRead, offset, into, false));
  }
  // The value of the range's bytes, -1 when they differ, -2 on an error.
  int value_at(uint64_t offset, size_t length = 4096) {
    auto data = filled(length, 0);
    if (!read(offset, data).ok()) return -2;
    for (std::byte byte : data) {
      if (byte != data[0]) return -1;
    }
    return static_cast<int>(data[0]);
  }
  void power_cycle() {
    drive.power_off();
    EXPECT_EQ(cable->state(), io::DeviceState::kUnavailable);
    drive.power_on();
    cable->reconnect();
  }

  SimLoop world{7};
  SectorStore::Pool pool;
  SimDrive drive{world, &pool, {.name = "d0", .size_bytes = kSize}, Prng(8)};
  std::unique_ptr<SimCable> cable;
};

TEST_F(SimDriveTest, ReadsWhatWasWritten) {
  uint64_t start = world.now_ns();
  ASSERT_TRUE(write(8192, 5).ok());
  EXPECT_GE(world.now_ns(), start + drive.options().latency_min_ns);
  EXPECT_EQ(value_at(8192), 5);
  EXPECT_EQ(value_at(0), 0);
}

TEST_F(SimDriveTest, PowerLossTakesSomeUnflushedSectorsAndNoFlushedOnes) {
  ASSERT_TRUE(write(0, 1, 65536).ok());
  ASSERT_TRUE(flush().ok());
  ASSERT_TRUE(write(0, 2, 65536).ok());
  ASSERT_TRUE(write(65536, 3, 4096, true).ok());
  EXPECT_EQ(drive.medium().unflushed_sectors(), 128u);
  uint64_t incarnation = cable->incarnation();
  power_cycle();
  EXPECT_GT(cable->incarnation(), incarnation);
  int old = 0;
  int fresh = 0;
  for (uint64_t at = 0; at < 65536; at += 512) {
    int value = value_at(at, 512);
    ASSERT_TRUE(value == 1 || value == 2) << value;
    ++(value == 1 ? old : fresh);
  }
  EXPECT_GT(old, 20);
  EXPECT_GT(fresh, 20);
  EXPECT_EQ(value_at(65536), 3);
}

TEST_F(SimDriveTest, ADriveWithoutAVolatileCacheLosesNothing) {
  SimDrive safe(world, &pool, {.name = "s", .size_bytes = kSize, .volatile_cache = false}, Prng(1));
  auto other = safe.connect(world);
  auto data = filled(4096, 9);
  ASSERT_TRUE(world.block_on(one(other.get(), io::IoOp::kWrite, 0, data, false)).ok());
  EXPECT_EQ(safe.medium().unflushed_sectors(), 0u);
}

TEST_F(SimDriveTest, ARequestInFlightAtAPowerLossFailsAndMayBeTorn) {
  bool torn = false;
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(write(0, 1, 8192, true).ok());
    auto data = filled(8192, 2);
    io::Device::Io io(*cable, io::IoOp::kWrite, {0, 8192}, {data.data(), data.size()}, false);
    io.iov = &io.single;
    Status result;
    static Status* out;
    out = &result;
    io.done = [](io::IoRequest*, Status status) { *out = std::move(status); };
    cable->submit(io);
    drive.power_off();
    world.run_for(1);
    EXPECT_EQ(result.code(), Code::k_unavailable);
    drive.power_on();
    cable->reconnect();
    torn = torn || value_at(0, 8192) == -1;
  }
  EXPECT_TRUE(torn);
}

TEST_F(SimDriveTest, ErrorsOnceAndSticky) {
  drive.faults().write_error_one_in = 1;
  EXPECT_EQ(write(0, 1).code(), Code::k_io_error);
  drive.faults() = {};
  EXPECT_TRUE(write(0, 1).ok());
  drive.set_broken(true);
  EXPECT_EQ(write(0, 2).code(), Code::k_io_error);
  EXPECT_EQ(flush().code(), Code::k_io_error);
  EXPECT_EQ(value_at(0), -2);
  drive.set_broken(false);
  EXPECT_EQ(value_at(0), 1);
  drive.set_full(true);
  EXPECT_EQ(write(0, 3).code(), Code::k_no_space);
  EXPECT_EQ(value_at(0), 1);
}

TEST_F(SimDriveTest, AFailedFlushMakesNothingDurable) {
  ASSERT_TRUE(write(0, 1, 65536).ok());
  drive.faults().flush_error_one_in = 1;
  EXPECT_EQ(flush().code(), Code::k_io_error);
  EXPECT_EQ(drive.medium().unflushed_sectors(), 128u);
}

TEST_F(SimDriveTest, ALatentSectorErrorIsHealedByAWrite) {
  ASSERT_TRUE(write(0, 1).ok());
  drive.medium().make_unreadable(512);
  EXPECT_EQ(value_at(0), -2);
  EXPECT_EQ(value_at(1024, 512), 1);
  ASSERT_TRUE(write(0, 2).ok());
  EXPECT_EQ(value_at(0), 2);
}

TEST_F(SimDriveTest, BitRotLostAndMisdirectedWritesAreSilent) {
  ASSERT_TRUE(write(0, 1).ok());
  drive.medium().flip_bit(100, 3);
  EXPECT_EQ(value_at(0), -1);
  drive.faults().lost_write_one_in = 1;
  EXPECT_TRUE(write(4096, 7).ok());
  EXPECT_EQ(value_at(4096), 0);
  drive.faults() = {.misdirected_one_in = 1};
  EXPECT_TRUE(write(4096, 7).ok());
  drive.faults() = {};
  EXPECT_NE(value_at(4096), 7);
}

TEST_F(SimDriveTest, AStuckDriveIsSilentUntilUnstuckOrDisconnected) {
  drive.set_stuck(true);
  io::TaskGroup group(world);
  bool ended = false;
  auto data = filled(4096, 4);
  struct Helper {
    static io::Task<void> run(io::Device* device, std::vector<std::byte>* data, bool* ended,
                              Code* code) {
      Status status = co_await device->write(0, *data);
      *ended = true;
      *code = status.code();
    }
  };
  Code code = Code::k_ok;
  group.spawn(Helper::run(cable.get(), &data, &ended, &code));
  world.run_for(10'000'000'000);
  EXPECT_FALSE(ended);
  drive.set_stuck(false);
  world.run_for(1'000'000);
  EXPECT_TRUE(ended);
  EXPECT_EQ(code, Code::k_ok);
  drive.set_stuck(true);
  ended = false;
  group.spawn(Helper::run(cable.get(), &data, &ended, &code));
  world.run_for(1'000'000);
  cable->disconnect();
  world.run_for(1);
  EXPECT_TRUE(ended);
  EXPECT_EQ(code, Code::k_unavailable);
  drive.set_stuck(false);
  cable->reconnect();
  world.block_on(group.join());
}

TEST_F(SimDriveTest, AfterTheCutNothingHasAnEffect) {
  ASSERT_TRUE(write(0, 1, 4096, true).ok());
  auto old = std::move(cable);
  old->cut();
  connect();
  auto data = filled(4096, 9);
  EXPECT_EQ(world.block_on(one(old.get(), io::IoOp::kWrite, 0, data, false)).code(),
            Code::k_unavailable);
  old->reconnect();
  EXPECT_EQ(world.block_on(one(old.get(), io::IoOp::kWrite, 0, data, false)).code(),
            Code::k_unavailable);
  EXPECT_EQ(value_at(0), 1);
  EXPECT_TRUE(world.block_on(old->close()).ok());
}

TEST_F(SimDriveTest, ADiscardLeavesOldContentsOrZeroes) {
  ASSERT_TRUE(write(0, 3, 65536).ok());
  auto nothing = std::span<std::byte>(static_cast<std::byte*>(nullptr), 65536);
  ASSERT_TRUE(world.block_on(one(cable.get(), io::IoOp::kDiscard, 0, nothing, false)).ok());
  for (uint64_t at = 0; at < 65536; at += 512) {
    int value = value_at(at, 512);
    EXPECT_TRUE(value == 3 || value == 0) << value;
  }
}

}  // namespace
}  // namespace bb::sim
