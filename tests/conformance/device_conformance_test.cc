// SPDX-License-Identifier: Apache-2.0
// What every device promises (io/device.h), asked of each.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/units.h"
#include "conformance/device_backends.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/sync.h"

namespace bb::test {
namespace {

using io::Device;
using io::DeviceState;
using io::IoOp;
using io::IoRequest;
using io::Task;

class DeviceConformance : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    std::string why_not;
    host_ = GetParam().start(world_, why_not);
    if (host_ == nullptr) GTEST_SKIP() << "skipped: " << why_not;
    auto opened = world_.run(io::open_device(world_.context, host_->uri()));
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    device_ = std::move(opened).value();
  }
  void TearDown() override {
    if (device_ != nullptr && device_->state() != DeviceState::kClosed) {
      Status closed = world_.run(device_->close());
      EXPECT_TRUE(closed.ok()) << closed.to_string();
    }
    device_.reset();
    if (host_ != nullptr) host_->stop(world_);
  }

  static Task<Status> submit_one(Device* device, IoOp op, uint64_t offset, uint64_t length,
                                 Bytes memory) {
    switch (op) {
      case IoOp::kRead:
        co_return co_await device->read(offset, memory);
      case IoOp::kWrite:
        co_return co_await device->write(offset, memory);
      case IoOp::kFlush:
        co_return co_await device->flush();
      case IoOp::kDiscard:
        co_return co_await device->discard(offset, length);
      case IoOp::kWriteZeroes:
        co_return co_await device->write_zeroes(offset, length);
    }
    co_return Status();
  }
  Status one(IoOp op, uint64_t offset, uint64_t length, Bytes memory = {}) {
    return world_.run(submit_one(device_.get(), op, offset, length, memory));
  }
  std::vector<std::byte> pattern(size_t length, uint64_t seed) {
    std::vector<std::byte> bytes(length);
    Prng(seed).fill(bytes);
    return bytes;
  }
  void expect_ok(const Status& status) { EXPECT_TRUE(status.ok()) << status.to_string(); }
  void expect_error(const Status& status, Code code, std::string_view text) {
    EXPECT_EQ(status.code(), code) << status.to_string();
    EXPECT_NE(status.text().find(text), std::string::npos) << status.to_string();
  }
  std::vector<std::byte> read_back(uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length, std::byte{0xee});
    expect_ok(one(IoOp::kRead, offset, length, bytes));
    return bytes;
  }
  uint64_t block() const { return device_->info().block_size_bytes; }
  uint64_t size() const { return device_->info().size_bytes; }
  bool keeps() const { return GetParam().keeps_data; }

  World world_;
  std::unique_ptr<BackendHost> host_;
  std::unique_ptr<Device> device_;
};

TEST_P(DeviceConformance, DescribesItself) {
  const io::DeviceInfo& info = device_->info();
  EXPECT_EQ(info.size_bytes, kBackendBytes);
  EXPECT_TRUE(info.block_size_bytes == 512 || info.block_size_bytes == 4096);
  EXPECT_EQ(info.size_bytes % info.block_size_bytes, 0u);
  EXPECT_GE(info.transfer_max_bytes, 64 * KiB);
  EXPECT_GE(info.physical_block_bytes, info.block_size_bytes);
  EXPECT_FALSE(info.uri.empty());
  EXPECT_FALSE(info.read_only);
  EXPECT_EQ(device_->state(), DeviceState::kReady);
  EXPECT_GE(device_->incarnation(), 1u);
}

TEST_P(DeviceConformance, RefusesWhatIsOutOfRangeOrCrooked) {
  std::vector<std::byte> memory(2 * MiB + 4096);
  uint64_t b = block();
  auto bytes = [&](uint64_t length) { return Bytes(memory).first(length); };
  auto text = [](std::string_view op, uint64_t length, uint64_t offset, std::string_view why) {
    return fmt::format("{} of {} bytes at {}: {}", op, length, offset, why);
  };
  std::string beyond = fmt::format("beyond the end of the device at {}", size());
  std::string multiple = fmt::format("not a multiple of the block size of {}", b);
  auto bad = Code::k_invalid_argument;
  expect_error(one(IoOp::kRead, size(), 0, bytes(b)), bad, text("read", b, size(), beyond));
  expect_error(one(IoOp::kWrite, size() - b, 0, bytes(2 * b)), bad,
               text("write", 2 * b, size() - b, beyond));
  expect_error(one(IoOp::kDiscard, size() - b, 2 * b), bad, beyond);
  expect_error(one(IoOp::kWriteZeroes, UINT64_MAX - b + 1, 2 * b), bad, beyond);
  expect_error(one(IoOp::kRead, 1, 0, bytes(b)), bad, text("read", b, 1, multiple));
  expect_error(one(IoOp::kWrite, 0, 0, bytes(b / 2)), bad, text("write", b / 2, 0, multiple));
  expect_error(one(IoOp::kWriteZeroes, 0, b + 1), bad, multiple);
  expect_error(one(IoOp::kRead, 0, 0, {}), bad, text("read", 0, 0, "no length"));
  uint64_t max = device_->info().transfer_max_bytes;
  if (max < memory.size()) {
    expect_error(one(IoOp::kRead, 0, 0, bytes(max + b)), bad,
                 fmt::format("larger than one transfer, {} bytes", max));
  }
}

Task<Status> wrong_sum(Device* device, iovec* iov) {
  co_return co_await device->readv(0, iov, 1, 2 * device->info().block_size_bytes);
}

TEST_P(DeviceConformance, RefusesBuffersOfAnotherLength) {
  std::vector<std::byte> memory(block());
  iovec iov{.iov_base = memory.data(), .iov_len = memory.size()};
  expect_error(world_.run(wrong_sum(device_.get(), &iov)), Code::k_invalid_argument,
               fmt::format("the buffers hold {} bytes", block()));
}

TEST_P(DeviceConformance, ReadsWhatWasWritten) {
  for (uint64_t length : {block(), 3 * block(), uint64_t{64 * KiB}}) {
    for (uint64_t offset : {uint64_t{0}, 7 * block(), size() - length}) {
      auto written = pattern(length, offset + length);
      expect_ok(one(IoOp::kWrite, offset, length, written));
      auto got = read_back(offset, length);
      if (keeps()) {
        EXPECT_TRUE(got == written) << length << " at " << offset;
      } else {
        EXPECT_TRUE(all_zero(got));
      }
    }
  }
}

TEST_P(DeviceConformance, TakesTheLargestTransfer) {
  uint64_t length = std::min<uint64_t>(device_->info().transfer_max_bytes, size());
  auto written = pattern(length, 5);
  expect_ok(one(IoOp::kWrite, 0, length, written));
  auto got = read_back(0, length);
  EXPECT_TRUE(got == written || !keeps());
}

TEST_P(DeviceConformance, LaterWritesCoverEarlierOnes) {
  auto first = pattern(8 * block(), 1);
  auto second = pattern(3 * block(), 2);
  expect_ok(one(IoOp::kWrite, 4 * block(), 0, first));
  expect_ok(one(IoOp::kWrite, 6 * block(), 0, second));
  std::copy(second.begin(), second.end(), first.begin() + static_cast<ptrdiff_t>(2 * block()));
  auto got = read_back(4 * block(), first.size());
  EXPECT_TRUE(got == first || !keeps());
}

TEST_P(DeviceConformance, TakesMemoryAtAnyAddress) {
  io::AlignedBuffer memory(64 * KiB);
  for (size_t skew : {1u, 7u, 64u, 511u, 513u}) {
    auto written = pattern(4 * block(), skew);
    Bytes skewed = memory.bytes().subspan(skew, written.size());
    std::copy(written.begin(), written.end(), skewed.begin());
    expect_ok(one(IoOp::kWrite, 8 * block(), 0, skewed));
    std::fill(skewed.begin(), skewed.end(), std::byte{1});
    expect_ok(one(IoOp::kRead, 8 * block(), 0, skewed));
    if (keeps()) {
      EXPECT_TRUE(std::equal(written.begin(), written.end(), skewed.begin())) << skew;
    }
  }
}

Task<Status> vectored(Device* device, const std::vector<iovec>* iov, uint64_t offset,
                      uint64_t length, bool write) {
  auto count = static_cast<uint32_t>(iov->size());
  if (write) co_return co_await device->writev(offset, iov->data(), count, length);
  co_return co_await device->readv(offset, iov->data(), count, length);
}

std::vector<iovec> split(Bytes memory, std::vector<size_t> cuts) {
  std::vector<iovec> iov;
  size_t at = 0;
  cuts.push_back(memory.size());
  for (size_t cut : cuts) {
    iov.push_back({.iov_base = memory.data() + at, .iov_len = cut - at});
    at = cut;
  }
  return iov;
}

TEST_P(DeviceConformance, GathersAndScattersOddPieces) {
  size_t length = 16 * block();
  std::vector<size_t> many;  // more pieces than the kernel takes in one call
  for (size_t at = 3; at < length && many.size() < 1500; at += 5) many.push_back(at);
  std::vector<std::vector<size_t>> cuts = {
      {1}, {block()}, {length - 1}, {1, 2, 3, 600, 601, 4000}, {0, 0, 100, 100}, many};
  for (size_t i = 0; i < cuts.size(); ++i) {
    auto written = pattern(length, 77 + i);
    std::vector<std::byte> copy = written;
    auto iov = split(copy, cuts[i]);
    expect_ok(world_.run(vectored(device_.get(), &iov, 2 * block(), length, true)));
    EXPECT_TRUE(copy == written) << "a write changed the caller's memory";
    std::fill(copy.begin(), copy.end(), std::byte{0});
    expect_ok(world_.run(vectored(device_.get(), &iov, 2 * block(), length, false)));
    EXPECT_TRUE(copy == written || !keeps()) << "cuts " << i;
    EXPECT_TRUE(read_back(2 * block(), length) == written || !keeps()) << "cuts " << i;
  }
}

Task<Status> durable(Device* device, ConstBytes bytes) {
  BB_CO_TRY(co_await device->write(0, bytes, true));
  BB_CO_TRY(co_await device->flush());
  BB_CO_TRY(co_await device->write_zeroes(bytes.size(), bytes.size(), true));
  co_return co_await device->flush();
}

TEST_P(DeviceConformance, FlushesAndWritesThrough) {
  auto written = pattern(4 * block(), 9);
  expect_ok(world_.run(durable(device_.get(), written)));
  EXPECT_TRUE(read_back(0, written.size()) == written || !keeps());
  EXPECT_TRUE(all_zero(read_back(written.size(), written.size())));
}

TEST_P(DeviceConformance, WritesZeroes) {
  auto written = pattern(std::min<size_t>(512 * KiB, device_->info().transfer_max_bytes), 10);
  uint64_t zeroed = written.size() * 4 / 5 / block() * block();
  expect_ok(one(IoOp::kWrite, 0, 0, written));
  expect_ok(one(IoOp::kWriteZeroes, 3 * block(), zeroed));
  auto begin = written.begin() + static_cast<ptrdiff_t>(3 * block());
  std::fill(begin, begin + static_cast<ptrdiff_t>(zeroed), std::byte{0});
  EXPECT_TRUE(read_back(0, written.size()) == written || !keeps());
  // The whole device in one request: zeroing has no transfer limit.
  expect_ok(one(IoOp::kWriteZeroes, 0, size()));
  EXPECT_TRUE(all_zero(read_back(size() / 2, 64 * KiB)));
}

TEST_P(DeviceConformance, ADiscardLeavesTheRestAlone) {
  auto written = pattern(64 * KiB, 11);
  expect_ok(one(IoOp::kWrite, 0, 0, written));
  Status discarded = one(IoOp::kDiscard, 16 * KiB, 32 * KiB);
  if (!device_->info().discard) {
    EXPECT_TRUE(discarded.ok() || discarded.code() == Code::k_not_supported)
        << discarded.to_string();
  } else {
    expect_ok(discarded);
  }
  auto got = read_back(0, written.size());
  if (!keeps()) return;
  EXPECT_TRUE(std::equal(got.begin(), got.begin() + 16 * KiB, written.begin()));
  EXPECT_TRUE(std::equal(got.begin() + 48 * KiB, got.end(), written.begin() + 48 * KiB));
}

// Extents cover the range from its front without a gap, and what is called zero reads as zeroes.
void expect_extents(const std::vector<io::Extent>& list, uint64_t offset, ConstBytes content) {
  uint64_t at = offset;
  for (const io::Extent& each : list) {
    ASSERT_GT(each.length_bytes, 0u);
    ASSERT_LE(at + each.length_bytes, content.size());
    if (each.zero) EXPECT_TRUE(all_zero(content.subspan(at, each.length_bytes))) << "at " << at;
    at += each.length_bytes;
  }
}

TEST_P(DeviceConformance, TellsWhatIsAllocated) {
  expect_ok(one(IoOp::kWriteZeroes, 0, size()));
  for (uint64_t at : {uint64_t{0}, 256 * KiB, 5 * MiB}) {
    auto written = pattern(128 * KiB, at + 1);
    expect_ok(one(IoOp::kWrite, at, 0, written));
  }
  std::vector<std::byte> content;
  for (uint64_t at = 0; at < size(); at += 64 * KiB) {
    auto part = read_back(at, 64 * KiB);
    content.insert(content.end(), part.begin(), part.end());
  }
  for (uint64_t offset = 0; offset < size();) {
    auto found = world_.run(device_->extents(offset, size() - offset, 3));
    ASSERT_TRUE(found.ok()) << found.status().to_string();
    ASSERT_LE(found->size(), 3u);
    expect_extents(*found, offset, content);
    for (const io::Extent& each : *found) offset += each.length_bytes;
  }
  auto one_block = world_.run(device_->extents(256 * KiB, block(), 1));
  ASSERT_TRUE(one_block.ok());
  EXPECT_EQ(one_block->front().length_bytes, block());
  EXPECT_FALSE(one_block->front().hole && keeps());
  expect_error(world_.run(device_->extents(size(), block(), 1)).status(), Code::k_invalid_argument,
               "beyond the end");
  expect_error(world_.run(device_->extents(1, block(), 1)).status(), Code::k_invalid_argument,
               "not a multiple");
  expect_error(world_.run(device_->extents(0, block(), 0)).status(), Code::k_invalid_argument,
               "no extent asked for");
}

Task<Status> zero_fast(Device* device, uint64_t length) {
  Device::Io io(*device, IoOp::kWriteZeroes, {0, length});
  io.fast_only = true;
  co_return co_await io;
}

TEST_P(DeviceConformance, ZeroesFastOrSaysThatItCannot) {
  auto written = pattern(64 * KiB, 12);
  expect_ok(one(IoOp::kWrite, 0, 0, written));
  Status zeroed = world_.run(zero_fast(device_.get(), 32 * KiB));
  EXPECT_TRUE(zeroed.ok() || zeroed.code() == Code::k_not_supported) << zeroed.to_string();
  EXPECT_TRUE(device_->info().fast_zero || !zeroed.ok());
  auto got = read_back(0, written.size());
  if (!keeps()) return;
  if (zeroed.ok()) std::fill_n(written.begin(), 32 * KiB, std::byte{0});
  EXPECT_TRUE(got == written);
}

// The model: each block is what its last completed write said. Requests in flight never overlap,
// because the order of those is undefined.
struct Model {
  Device* device;
  Prng prng;
  std::vector<std::byte> content;
  std::vector<bool> busy;  // per block
  uint64_t block;
  int left;
  std::string failure;

  bool claim(uint64_t first, uint64_t count) {
    for (uint64_t i = first; i < first + count; ++i) {
      if (busy[i]) return false;
    }
    std::fill_n(busy.begin() + static_cast<ptrdiff_t>(first), count, true);
    return true;
  }
  void release(uint64_t first, uint64_t count) {
    std::fill_n(busy.begin() + static_cast<ptrdiff_t>(first), count, false);
  }
};

Task<Status> model_step(Model* model, uint64_t first, uint64_t count) {
  uint64_t offset = first * model->block;
  uint64_t length = count * model->block;
  size_t skew = model->prng.chance(4) ? 1 + model->prng.below(700) : 0;
  io::AlignedBuffer memory(length + skew);
  Bytes bytes = memory.bytes().subspan(skew);
  auto expected = Bytes(model->content).subspan(offset, length);
  uint64_t dice = model->prng.below(100);
  if (dice < 45) {
    BB_CO_TRY(co_await model->device->read(offset, bytes));
    if (!std::equal(bytes.begin(), bytes.end(), expected.begin())) {
      co_return error(Code::k_corrupt, "read {} at {}: not what was written", length, offset);
    }
  } else if (dice < 90) {
    model->prng.fill(bytes);
    std::copy(bytes.begin(), bytes.end(), expected.begin());
    BB_CO_TRY(co_await model->device->write(offset, bytes, dice < 50));
  } else if (dice < 97) {
    std::fill(expected.begin(), expected.end(), std::byte{0});
    BB_CO_TRY(co_await model->device->write_zeroes(offset, length, dice == 90));
  } else {
    BB_CO_TRY(co_await model->device->flush());
  }
  co_return Status();
}

Task<void> model_worker(Model* model) {
  while (model->left > 0 && model->failure.empty()) {
    --model->left;
    uint64_t blocks = model->busy.size();
    uint64_t count = 1 + model->prng.below(std::min<uint64_t>(64 * KiB / model->block, blocks / 8));
    uint64_t first = model->prng.below(blocks - count + 1);
    if (!model->claim(first, count)) continue;
    Status status = co_await model_step(model, first, count);
    if (!status.ok()) model->failure = status.to_string();
    model->release(first, count);
  }
}

Task<void> run_model(io::Loop* loop, Model* model, int depth) {
  io::TaskGroup group(*loop);
  for (int i = 0; i < depth; ++i) group.spawn(model_worker(model));
  co_await group.join();
}

TEST_P(DeviceConformance, AgreesWithAModelAtEveryDepth) {
  if (!keeps()) GTEST_SKIP() << "skipped: this device keeps nothing";
  uint64_t used = 2 * MiB;
  expect_ok(one(IoOp::kWriteZeroes, 0, used));
  Model model{.device = device_.get(),
              .prng = Prng(42),
              .content = std::vector<std::byte>(used),
              .busy = std::vector<bool>(used / block()),
              .block = block(),
              .left = 0,
              .failure = ""};
  for (int depth : {1, 2, 4, 8, 16, 32}) {
    model.left = 700;
    world_.run(run_model(&world_.context.loop, &model, depth));
    ASSERT_EQ(model.failure, "") << "depth " << depth;
  }
  for (uint64_t at = 0; at < used; at += 64 * KiB) {
    auto got = read_back(at, 64 * KiB);
    ASSERT_TRUE(
        std::equal(got.begin(), got.end(), model.content.begin() + static_cast<ptrdiff_t>(at)));
  }
}

Task<std::pair<int, bool>> close_under_load(io::Loop* loop, Device* device, Bytes memory) {
  struct Counted : IoRequest {
    int* done_count = nullptr;
  };
  std::vector<Counted> requests(16);
  std::vector<iovec> iov(requests.size());
  int done_count = 0;
  size_t length = memory.size() / requests.size();
  for (size_t i = 0; i < requests.size(); ++i) {
    iov[i] = {.iov_base = memory.data() + i * length, .iov_len = length};
    requests[i].op = IoOp::kWrite;
    requests[i].offset_bytes = i * length;
    requests[i].length_bytes = length;
    requests[i].iov = &iov[i];
    requests[i].iov_count = 1;
    requests[i].done_count = &done_count;
    requests[i].done = [](IoRequest* request, Status status) {
      EXPECT_TRUE(status.ok()) << status.to_string();
      ++*static_cast<Counted*>(request)->done_count;
    };
    device->submit(requests[i]);
  }
  Status closed = co_await device->close();
  int at_close = done_count;
  co_await loop->yield();
  co_return std::pair(at_close, closed.ok());
}

TEST_P(DeviceConformance, CloseWaitsForWhatIsInFlightThenRefuses) {
  auto memory = pattern(1 * MiB, 3);
  auto [done, closed] =
      world_.run(close_under_load(&world_.context.loop, device_.get(), Bytes(memory)));
  EXPECT_EQ(done, 16);
  EXPECT_TRUE(closed);
  EXPECT_EQ(device_->state(), DeviceState::kClosed);
  expect_error(one(IoOp::kRead, 0, 0, Bytes(memory).first(block())), Code::k_bad_state,
               "the device is closed");
  expect_error(one(IoOp::kFlush, 0, 0), Code::k_bad_state, "the device is closed");
}

TEST_P(DeviceConformance, TellsItsWatchersOfClosing) {
  struct Watcher final : io::DeviceWatcher {
    std::vector<DeviceState> seen;
    void on_device_state(Device&, DeviceState state) override { seen.push_back(state); }
  } watcher;
  device_->watch(watcher);
  expect_ok(world_.run(device_->close()));
  EXPECT_EQ(watcher.seen, std::vector{DeviceState::kClosed});
  device_->unwatch(watcher);
}

TEST_P(DeviceConformance, ReadOnlyRefusesEveryChange) {
  if (!GetParam().can_read_only) GTEST_SKIP() << "skipped: this device has no read_only option";
  expect_ok(world_.run(device_->close()));
  std::string uri = host_->uri();
  uri += uri.find('?') == std::string::npos ? "?read_only=1" : "&read_only=1";
  device_.reset();
  auto opened = world_.run(io::open_device(world_.context, uri));
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  device_ = std::move(opened).value();
  EXPECT_TRUE(device_->info().read_only);
  std::vector<std::byte> memory(block());
  expect_ok(one(IoOp::kRead, 0, 0, memory));
  expect_ok(one(IoOp::kFlush, 0, 0));
  for (IoOp op : {IoOp::kWrite, IoOp::kDiscard, IoOp::kWriteZeroes}) {
    expect_error(one(op, 0, block(), memory), Code::k_permission_denied, "the device is read-only");
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceConformance, testing::ValuesIn(device_backends()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace bb::test
