// SPDX-License-Identifier: Apache-2.0
#include <blockbridge/blockbridge.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(bb_runtime_open(nullptr, &runtime_), BB_OK) << bb_last_error();
    ASSERT_EQ(bb_device_open(runtime_, "mem:64M", &device_), BB_OK) << bb_last_error();
  }
  void TearDown() override {
    EXPECT_EQ(bb_device_close(&device_), BB_OK) << bb_last_error();
    bb_runtime_close(&runtime_);
  }
  bb_runtime* runtime_ = nullptr;
  bb_device* device_ = nullptr;
};

TEST_F(DeviceTest, TellsWhatItIs) {
  bb_device_info info = BB_DEVICE_INFO_INIT;
  ASSERT_EQ(bb_device_get_info(device_, &info), BB_OK);
  EXPECT_EQ(info.size_bytes, 64u << 20);
  EXPECT_EQ(info.block_size_bytes, 512u);
  EXPECT_EQ(info.ready, 1u);
}

// An older program knows less of the struct: what lies behind its size stays untouched.
TEST_F(DeviceTest, FillsNoMoreThanTheCallersStruct) {
  bb_device_info info = BB_DEVICE_INFO_INIT;
  info.struct_size = 16;
  info.transfer_max_bytes = 77;
  ASSERT_EQ(bb_device_get_info(device_, &info), BB_OK);
  EXPECT_EQ(info.size_bytes, 64u << 20);
  EXPECT_EQ(info.transfer_max_bytes, 77u);
}

TEST_F(DeviceTest, CountsWhatItDid) {
  std::vector<unsigned char> bytes(8192);
  ASSERT_EQ(bb_device_write(device_, 0, bytes.data(), bytes.size()), BB_OK);
  ASSERT_EQ(bb_device_read(device_, 4096, bytes.data(), 4096), BB_OK);
  ASSERT_EQ(bb_device_read(device_, 0, bytes.data(), 512), BB_OK);
  ASSERT_EQ(bb_device_flush(device_), BB_OK);
  ASSERT_EQ(bb_device_discard(device_, 0, 4096), BB_OK);
  bb_io_counters counters = BB_IO_COUNTERS_INIT;
  ASSERT_EQ(bb_device_get_counters(device_, &counters), BB_OK);
  EXPECT_EQ(counters.reads, 2u);
  EXPECT_EQ(counters.read_bytes, 4608u);
  EXPECT_EQ(counters.writes, 1u);
  EXPECT_EQ(counters.written_bytes, 8192u);
  EXPECT_EQ(counters.others, 2u);
  EXPECT_EQ(counters.other_bytes, 4096u);
  EXPECT_EQ(counters.read_errors + counters.write_errors + counters.other_errors, 0u);
  EXPECT_EQ(counters.in_flight, 0u);
  EXPECT_EQ(counters.connections, 0u);
}

// An older program's struct ends earlier, as with bb_device_info.
TEST_F(DeviceTest, CountersFillNoMoreThanTheCallersStruct) {
  bb_io_counters counters = BB_IO_COUNTERS_INIT;
  counters.struct_size = 24;
  counters.writes = 77;
  unsigned char block[512];
  ASSERT_EQ(bb_device_read(device_, 0, block, sizeof block), BB_OK);
  ASSERT_EQ(bb_device_get_counters(device_, &counters), BB_OK);
  EXPECT_EQ(counters.reads, 1u);
  EXPECT_EQ(counters.writes, 77u);
}

TEST_F(DeviceTest, MetricsHoldWhatIsOpenAndForgetWhatIsClosed) {
  auto metrics = [this] {
    char* text = nullptr;
    EXPECT_EQ(bb_runtime_get_metrics(runtime_, &text), BB_OK);
    std::string out(text);
    bb_string_free(text);
    return out;
  };
  bb_device* other = nullptr;
  ASSERT_EQ(bb_device_open(runtime_, "mem:1M", &other), BB_OK);
  EXPECT_NE(metrics().find("bb_device_commands_total{device=\"mem:1M\",op=\"read\"} 0\n"),
            std::string::npos);
  ASSERT_EQ(bb_device_close(&other), BB_OK);
  EXPECT_EQ(metrics().find("mem:1M"), std::string::npos);
  EXPECT_NE(metrics().find("mem:64M"), std::string::npos);
}

TEST_F(DeviceTest, BlockingCallsSplitLongTransfers) {
  std::vector<unsigned char> out(20u << 20);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<unsigned char>(i * 31 + (i >> 12));
  std::vector<unsigned char> in(out.size());
  ASSERT_EQ(bb_device_write(device_, 512, out.data(), out.size()), BB_OK) << bb_last_error();
  ASSERT_EQ(bb_device_flush(device_), BB_OK);
  ASSERT_EQ(bb_device_read(device_, 512, in.data(), in.size()), BB_OK) << bb_last_error();
  EXPECT_EQ(in, out);
  ASSERT_EQ(bb_device_write_zeroes(device_, 1024, 4096), BB_OK);
  ASSERT_EQ(bb_device_read(device_, 1024, in.data(), 4096), BB_OK);
  EXPECT_TRUE(std::all_of(in.begin(), in.begin() + 4096, [](unsigned char c) { return c == 0; }));
}

TEST_F(DeviceTest, FourThreadsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t, &wrong] {
      std::vector<char> out(4096, static_cast<char>('a' + t));
      std::vector<char> in(4096);
      for (uint64_t i = 0; i < 500; ++i) {
        uint64_t offset = (i * 4 + static_cast<uint64_t>(t)) * 4096;
        if (bb_device_write(device_, offset, out.data(), out.size()) != BB_OK) ++wrong;
        if (bb_device_read(device_, offset, in.data(), in.size()) != BB_OK || in != out) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

struct Window {
  bb_device* device = nullptr;
  std::atomic<int> left{0};
  std::atomic<int> errors{0};
};
struct Slot {
  bb_io io = BB_IO_INIT;
  iovec iov{};
  std::vector<char> memory = std::vector<char>(4096);
  Window* window = nullptr;
};

// Each completion submits the next from within its callback: queue depth 32 without a thread.
void next(void* arg, int code, const char*) {
  auto* slot = static_cast<Slot*>(arg);
  if (code != BB_OK) ++slot->window->errors;
  if (--slot->window->left < 0) return;
  slot->io.offset_bytes = (slot->io.offset_bytes + 4096 * 37) % (64u << 20);
  bb_device_submit(slot->window->device, &slot->io);
}

TEST_F(DeviceTest, CallbacksSubmitTheNext) {
  Window window;
  window.device = device_;
  window.left = 100'000;
  std::vector<Slot> slots(32);
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots[i];
    slot.window = &window;
    slot.iov = {.iov_base = slot.memory.data(), .iov_len = slot.memory.size()};
    slot.io.op = i % 2 == 0 ? BB_IO_READ : BB_IO_WRITE;
    slot.io.iov = &slot.iov;
    slot.io.iov_count = 1;
    slot.io.offset_bytes = 4096 * i;
    slot.io.done = next;
    slot.io.arg = &slot;
    bb_device_submit(device_, &slot.io);
  }
  while (window.left > -32) std::this_thread::yield();
  EXPECT_EQ(window.errors, 0);
}

}  // namespace
