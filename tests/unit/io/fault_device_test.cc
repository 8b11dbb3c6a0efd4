// SPDX-License-Identifier: Apache-2.0
#include "io/fault_device.h"

#include <gtest/gtest.h>

#include <bit>
#include <set>

#include "io/device_uri.h"
#include "io/sync.h"
#include "support/world.h"

namespace bb::io {
namespace {

class FaultDeviceTest : public testing::Test {
 protected:
  void TearDown() override {
    if (device_ != nullptr) EXPECT_TRUE(world_.run(device_->close()).ok());
  }
  FaultDevice& make(uint64_t seed = 1) {
    auto inner = world_.run(open_device(world_.context, "mem:1M"));
    device_ = std::make_unique<FaultDevice>(*world_.reactor, std::move(inner).value(), seed);
    return *device_;
  }
  static Task<Status> do_write(Device* device, uint64_t offset, ConstBytes from) {
    co_return co_await device->write(offset, from);
  }
  static Task<Status> do_read(Device* device, uint64_t offset, Bytes into) {
    co_return co_await device->read(offset, into);
  }
  static Task<Status> do_flush(Device* device) { co_return co_await device->flush(); }
  Status write(uint64_t offset, size_t length, std::byte value) {
    std::vector<std::byte> bytes(length, value);
    return world_.run(do_write(device_.get(), offset, bytes));
  }
  std::vector<std::byte> read(Device& device, uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length);
    Status status = world_.run(do_read(&device, offset, bytes));
    EXPECT_TRUE(status.ok()) << status.to_string();
    return bytes;
  }
  static size_t bits_set(ConstBytes bytes) {
    size_t bits = 0;
    for (std::byte b : bytes) bits += static_cast<size_t>(std::popcount(static_cast<uint8_t>(b)));
    return bits;
  }
  Status open(std::string uri) {
    auto opened = world_.run(open_device(world_.context, std::move(uri)));
    if (!opened.ok()) return opened.status();
    return world_.run((*opened)->close());
  }

  test::World world_;
  std::unique_ptr<FaultDevice> device_;
};

TEST_F(FaultDeviceTest, ErrorsHitTheirRangeTheirOperationAndNoMore) {
  auto& device = make();
  device.add({.ops = FaultRule::kWrites,
              .begin_bytes = 4096,
              .end_bytes = 8192,
              .skip = 1,
              .times_left = 1,
              .code = Code::k_no_space});
  EXPECT_TRUE(write(0, 4096, std::byte{1}).ok());
  EXPECT_TRUE(write(8192, 4096, std::byte{1}).ok());
  EXPECT_TRUE(write(4096, 512, std::byte{1}).ok());  // skipped
  Status failed = write(0, 8192, std::byte{2});
  EXPECT_EQ(failed.to_string(),
            "fault:mem:1M: write of 8192 bytes at 0: injected error [no_space]");
  EXPECT_TRUE(write(4096, 4096, std::byte{3}).ok());
  EXPECT_EQ(read(device, 0, 512)[0], std::byte{1}) << "a failed write left something";
  EXPECT_EQ(device.hits(FaultKind::kError), 1u);
}

TEST_F(FaultDeviceTest, StickyErrorsStay) {
  auto& device = make();
  uint64_t id =
      device.add({.ops = FaultRule::kFlushes, .numerator = 1, .denominator = 4, .sticky = true});
  int first = -1;
  for (int i = 0; i < 100; ++i) {
    bool failed = !world_.run(do_flush(&device)).ok();
    if (failed && first < 0) first = i;
    EXPECT_EQ(failed, first >= 0);
  }
  EXPECT_GE(first, 0);
  EXPECT_TRUE(device.remove(id));
  EXPECT_FALSE(device.remove(id));
  EXPECT_TRUE(world_.run(do_flush(&device)).ok());
}

TEST_F(FaultDeviceTest, ATornWriteLeavesAPrefixOfBlocks) {
  auto& device = make();
  std::set<size_t> lengths;
  for (int i = 0; i < 40; ++i) {
    device.clear();
    ASSERT_TRUE(write(0, 8192, std::byte{1}).ok());
    bool acknowledge = i % 2 == 0;
    device.add({.kind = FaultKind::kTornWrite, .acknowledge = acknowledge});
    EXPECT_EQ(write(0, 8192, std::byte{2}).ok(), acknowledge);
    auto got = read(device, 0, 8192);
    size_t landed = 0;
    while (landed < got.size() && got[landed] == std::byte{2}) ++landed;
    EXPECT_EQ(landed % 512, 0u);
    EXPECT_LT(landed, 8192u);
    for (size_t at = landed; at < got.size(); ++at) ASSERT_EQ(got[at], std::byte{1});
    lengths.insert(landed);
  }
  EXPECT_GT(lengths.size(), 5u);
}

TEST_F(FaultDeviceTest, ALostWriteIsAcknowledged) {
  auto& device = make();
  device.add({.kind = FaultKind::kLostWrite, .ops = FaultRule::kWrites});
  EXPECT_TRUE(write(0, 512, std::byte{9}).ok());
  EXPECT_TRUE(all_zero(read(device, 0, 512)));
}

TEST_F(FaultDeviceTest, OneBitFlipsOnReadOrOnTheWayToTheDrive) {
  auto& device = make();
  device.add({.kind = FaultKind::kBitFlip, .ops = FaultRule::kReads});
  EXPECT_EQ(bits_set(read(device, 0, 4096)), 1u);
  EXPECT_EQ(bits_set(read(device.inner(), 0, 4096)), 0u);
  device.clear();
  device.add({.kind = FaultKind::kBitFlip, .ops = FaultRule::kWrites});
  EXPECT_TRUE(write(0, 4096, std::byte{0}).ok());
  EXPECT_EQ(bits_set(read(device.inner(), 0, 4096)), 1u);
}

TEST_F(FaultDeviceTest, LatencyDelays) {
  auto& device = make();
  device.add({.kind = FaultKind::kLatency, .latency_ns = 20'000'000});
  uint64_t before = world_.reactor->now_ns();
  EXPECT_TRUE(write(0, 512, std::byte{1}).ok());
  EXPECT_GE(world_.reactor->now_ns() - before, 20'000'000u);
}

Task<void> write_into(Device* device, ConstBytes bytes, bool* done) {
  EXPECT_TRUE((co_await device->write(0, bytes)).ok());
  *done = true;
}
Task<std::pair<bool, bool>> get_stuck(Loop* loop, FaultDevice* device) {
  std::vector<std::byte> bytes(512, std::byte{5});
  bool done = false;
  TaskGroup group(*loop);
  group.spawn(write_into(device, bytes, &done));
  co_await loop->sleep_for(5'000'000);
  bool before = done;
  EXPECT_EQ(device->stuck(), 1u);
  device->release_stuck();
  co_await group.join();
  co_return std::pair(before, done);
}

TEST_F(FaultDeviceTest, AStuckRequestWaitsForItsRelease) {
  auto& device = make();
  device.add({.kind = FaultKind::kStuck, .times_left = 1});
  EXPECT_EQ(world_.run(get_stuck(world_.reactor.get(), &device)), std::pair(false, true));
  EXPECT_EQ(device.stuck(), 0u);
}

TEST_F(FaultDeviceTest, TheSameSeedGivesTheSameFaults) {
  auto trace = [&](uint64_t seed) {
    auto& device = make(seed);
    device.add({.numerator = 1, .denominator = 3});
    std::string marks;
    for (int i = 0; i < 64; ++i) marks += write(0, 512, std::byte{1}).ok() ? '.' : 'x';
    EXPECT_TRUE(world_.run(device.close()).ok());
    device_.reset();
    return marks;
  };
  EXPECT_EQ(trace(5), trace(5));
  EXPECT_NE(trace(5), trace(6));
}

TEST_F(FaultDeviceTest, UriOptionsBecomeRules) {
  auto opened = world_.run(open_device(
      world_.context, "fault:mem:1M%3Fblock_size=4096?write_error=1%2F1&range=64K-128K"));
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  EXPECT_EQ((*opened)->info().block_size_bytes, 4096u);
  std::vector<std::byte> bytes(4096);
  EXPECT_TRUE(world_.run(do_write(opened->get(), 0, bytes)).ok());
  EXPECT_EQ(world_.run(do_write(opened->get(), 65536, bytes)).code(), Code::k_io_error);
  EXPECT_TRUE(world_.run(do_read(opened->get(), 65536, bytes)).ok());
  EXPECT_TRUE(world_.run((*opened)->close()).ok());
}

TEST_F(FaultDeviceTest, RefusesBadUris) {
  struct Case {
    std::string uri;
    Code code;
    std::string_view why;
  };
  for (const Case& c :
       {Case{"fault:", Code::k_invalid_argument, "is not a device URI"},
        {"fault:mem:1M?read_error=2", Code::k_invalid_argument,
         "URI option read_error: \"2\" is not a probability"},
        {"fault:mem:1M?read_error=1/0", Code::k_invalid_argument, "is not a probability"},
        {"fault:mem:1M?range=5", Code::k_invalid_argument, "expected OFFSET-END"},
        {"fault:mem:1M?range=5-2", Code::k_invalid_argument, "expected OFFSET-END"},
        {"fault:mem:1M?block_size=512", Code::k_invalid_argument,
         "fault: unknown URI option \"block_size\""},
        {"fault:file:/nonexistent", Code::k_not_found, "/nonexistent"}}) {
    Status status = open(c.uri);
    EXPECT_EQ(status.code(), c.code) << c.uri << ": " << status.to_string();
    EXPECT_NE(status.text().find(c.why), std::string::npos) << status.to_string();
  }
}

}  // namespace
}  // namespace bb::io
