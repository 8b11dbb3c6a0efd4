// SPDX-License-Identifier: Apache-2.0
// Devices made of the caller's functions.
#include <blockbridge/blockbridge.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

// Memory behind functions, which notes how it was called.
struct Store {
  std::vector<unsigned char> bytes;
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::atomic<int> inside{0}, most_inside{0}, flushes{0}, discards{0}, closed{0};
  std::atomic<int> fails_with{BB_OK};

  explicit Store(size_t size) : bytes(size) {}

  static Store& of(void* arg) { return *static_cast<Store*>(arg); }
  template <typename Use>
  int called(Use use) {
    int now = ++inside;
    for (int most = most_inside; now > most && !most_inside.compare_exchange_weak(most, now);) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    {
      std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      if (fails_with == BB_OK) use();
    }
    --inside;
    return fails_with;
  }
  bb_device_functions functions() {
    bb_device_functions all = BB_DEVICE_FUNCTIONS_INIT;
    all.size_bytes = bytes.size();
    all.name = "store";
    all.arg = this;
    all.read = [](void* arg, uint64_t at, void* into, size_t length) {
      Store& self = of(arg);
      return self.called([&] { std::memcpy(into, &self.bytes[at], length); });
    };
    all.write = [](void* arg, uint64_t at, const void* from, size_t length) {
      Store& self = of(arg);
      return self.called([&] { std::memcpy(&self.bytes[at], from, length); });
    };
    all.flush = [](void* arg) {
      ++of(arg).flushes;
      return int{BB_OK};
    };
    all.closed = [](void* arg) { ++of(arg).closed; };
    return all;
  }
};

class FunctionsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(bb_runtime_open(nullptr, &runtime), BB_OK); }
  void TearDown() override { EXPECT_EQ(bb_runtime_close(&runtime), BB_OK) << bb_last_error(); }
  bb_device* create(const bb_device_functions& functions) {
    bb_device* device = nullptr;
    EXPECT_EQ(bb_device_create(runtime, &functions, &device), BB_OK) << bb_last_error();
    return device;
  }
  bb_runtime* runtime = nullptr;
};

TEST_F(FunctionsTest, OneThreadAfterTheOtherAndNeverTheRuntimes) {
  Store store(4 << 20);
  bb_device* device = create(store.functions());
  std::vector<unsigned char> out(3 << 20, 0x5a), in(out.size());
  EXPECT_EQ(bb_device_write(device, 512, out.data(), out.size()), BB_OK) << bb_last_error();
  EXPECT_EQ(bb_device_read(device, 512, in.data(), in.size()), BB_OK) << bb_last_error();
  EXPECT_EQ(in, out);
  EXPECT_EQ(bb_device_flush(device), BB_OK);
  EXPECT_EQ(store.flushes, 1);
  EXPECT_EQ(store.threads.size(), 1u);
  EXPECT_EQ(store.threads.count(std::this_thread::get_id()), 0u);
  EXPECT_EQ(bb_device_write_zeroes(device, 1024, 1 << 20), BB_OK);  // written: no function
  EXPECT_EQ(store.bytes[1024], 0);
  EXPECT_EQ(store.bytes[1023], 0x5a);
  EXPECT_EQ(bb_device_discard(device, 0, 4096), BB_NOT_SUPPORTED);
  EXPECT_EQ(store.closed, 0);
  EXPECT_EQ(bb_device_close(&device), BB_OK);
  EXPECT_EQ(store.closed, 1);
}

struct Asked {
  bb_io io = BB_IO_INIT;
  iovec iov[2]{};
  std::vector<unsigned char> data = std::vector<unsigned char>(8192);
  std::atomic<int> code{-1};

  Asked(bb_io_op op, uint64_t at, uint32_t flags) {
    iov[0] = {data.data(), 4096};
    iov[1] = {data.data() + 4096, 4096};
    io.op = static_cast<uint32_t>(op);
    io.flags = flags;
    io.iov = iov;
    io.iov_count = 2;
    io.offset_bytes = at;
    io.arg = this;
    io.done = [](void* arg, int result, const char*) { static_cast<Asked*>(arg)->code = result; };
  }
  int wait() {
    while (code < 0) std::this_thread::yield();
    return code;
  }
};

TEST_F(FunctionsTest, SeveralThreadsWorkAtOnce) {
  Store store(1 << 20);
  bb_device_functions functions = store.functions();
  functions.threads = 4;
  bb_device* device = create(functions);
  std::vector<std::unique_ptr<Asked>> all;
  all.reserve(64);
  for (uint64_t i = 0; i < 64; ++i) {
    all.push_back(std::make_unique<Asked>(BB_IO_WRITE, i * 8192, i % 4 == 0 ? BB_IO_FUA : 0));
    std::memset(all.back()->data.data(), static_cast<int>(i), 8192);
    bb_device_submit(device, &all.back()->io);
  }
  for (auto& one : all) EXPECT_EQ(one->wait(), BB_OK);
  EXPECT_EQ(store.flushes, 16);  // each durable write
  EXPECT_LE(store.most_inside, 4);
  EXPECT_GE(store.threads.size(), 2u);
  for (uint64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(store.bytes[i * 8192], i);
    EXPECT_EQ(store.bytes[i * 8192 + 8191], i);
  }
  EXPECT_EQ(bb_device_close(&device), BB_OK);
}

TEST_F(FunctionsTest, WhatTheyGiveIsWhatTheCallerGets) {
  Store store(1 << 20);
  bb_device* device = create(store.functions());
  unsigned char block[512];
  store.fails_with = BB_CORRUPT;
  EXPECT_EQ(bb_device_read(device, 0, block, 512), BB_CORRUPT);
  EXPECT_STREQ(bb_last_error(), "store: read failed");
  store.fails_with = 12345;
  EXPECT_EQ(bb_device_write(device, 0, block, 512), BB_IO_ERROR);
  EXPECT_STREQ(bb_last_error(), "store: write gave 12345, which is no code");
  EXPECT_EQ(bb_device_read(device, 1 << 20, block, 512), BB_INVALID_ARGUMENT);
  EXPECT_EQ(bb_device_close(&device), BB_OK);
}

TEST_F(FunctionsTest, HostsReachThemAndArraysUseThem) {
  Store store(8 << 20);
  bb_device_functions functions = store.functions();
  functions.write = nullptr;  // read-only
  std::memset(&store.bytes[4096], 0x7e, 4096);
  bb_device* device = create(functions);
  bb_export_options options = BB_EXPORT_OPTIONS_INIT;
  options.kind = BB_EXPORT_NVME_TCP;
  options.listen = "127.0.0.1:0";
  bb_export* exported = nullptr;
  ASSERT_EQ(bb_export_start(device, &options, &exported), BB_OK) << bb_last_error();
  EXPECT_EQ(bb_device_close(&device), BB_BAD_STATE);
  bb_device* remote = nullptr;
  ASSERT_EQ(bb_device_open(runtime, bb_export_uri(exported), &remote), BB_OK) << bb_last_error();
  std::vector<unsigned char> in(4096);
  EXPECT_EQ(bb_device_read(remote, 4096, in.data(), in.size()), BB_OK) << bb_last_error();
  EXPECT_EQ(std::count(in.begin(), in.end(), 0x7e), 4096);
  EXPECT_EQ(bb_device_write(remote, 0, in.data(), in.size()), BB_PERMISSION_DENIED);
  EXPECT_EQ(bb_device_close(&remote), BB_OK);
  EXPECT_EQ(bb_export_close(&exported), BB_OK);
  EXPECT_EQ(bb_device_close(&device), BB_OK);
}

TEST_F(FunctionsTest, BadOnesAreRefusedAndNothingIsCalled) {
  Store store(1 << 20);
  auto refused = [&](auto change) {
    bb_device_functions functions = store.functions();
    change(functions);
    bb_device* device = nullptr;
    EXPECT_EQ(bb_device_create(runtime, &functions, &device), BB_INVALID_ARGUMENT);
    EXPECT_EQ(device, nullptr);
    return std::string(bb_last_error());
  };
  EXPECT_EQ(refused([](auto& f) { f.size_bytes = 1000; }),
            "store: size 1000 is not a multiple of the block size 512");
  EXPECT_EQ(refused([](auto& f) { f.size_bytes = 0; }),
            "store: size 0 is not a multiple of the block size 512");
  EXPECT_EQ(refused([](auto& f) { f.block_size_bytes = 1024; }),
            "store: block size 1024, allowed are 512 and 4096");
  EXPECT_EQ(refused([](auto& f) { f.threads = 65; }), "store: 65 threads, allowed are 1 to 64");
  EXPECT_EQ(refused([](auto& f) { f.read = nullptr; }), "bb_device_create: read is NULL");
  EXPECT_EQ(refused([](auto& f) { f.transfer_max_bytes = 1000; }),
            "bb_device_create: transfer_max_bytes 1000 is no multiple of 4096 up to 64 MiB");
  EXPECT_EQ(bb_device_create(runtime, nullptr, nullptr), BB_INVALID_ARGUMENT);
  EXPECT_EQ(store.closed, 0);
}

}  // namespace
