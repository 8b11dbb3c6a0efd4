// SPDX-License-Identifier: Apache-2.0
// What an array takes of the heap: 8 MiB and 0.02 % of its size at most, with bitmap and checksums,
// also when every page of checksums has been asked for.
#include <malloc.h>

#include "array_world.h"
#include "base/prng.h"
#include "base/sanitizer.h"
#include "io/buffer.h"
#include "raid/checksum_page.h"
#include "support/sparse_device.h"

namespace bb::raid {
namespace {

constexpr uint64_t kMemberBytes = 8 * GiB;
constexpr uint64_t kBlock = 4 * KiB;

uint64_t heap_bytes() {
  struct mallinfo2 all = mallinfo2();
  return all.uordblks + all.hblkhd;
}

class ArrayMemory : public testing::TestWithParam<const char*> {
 protected:
  // The heap is another one under a sanitizer, and says nothing.
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "under a sanitizer";
    for (uint32_t i = 0; i < shape_.members; ++i) {
      drives_.push_back(std::make_unique<SparseDevice>(fmt::format("drive{}", i), kMemberBytes));
    }
    before_bytes_ = heap_bytes();
  }
  template <typename T>
  T run(Task<T> task) {
    return reactor_->block_on(std::move(task));
  }
  std::vector<MemberDevice> members() {
    std::vector<MemberDevice> members;
    for (auto& drive : drives_) members.push_back(MemberDevice::borrow(*drive));
    return members;
  }
  Status create() {
    ArrayCreate what;
    what.name = "db";
    what.level = shape_.level->id;
    what.assume_clean = true;
    what.members = members();
    auto made = run(Array::create(context_, std::move(what), &authority_));
    if (made.ok()) array_ = std::move(made).value();
    return made.status();
  }
  Status assemble() {
    for (auto& drive : drives_) drive->reopen();
    ArrayAssemble what;
    what.devices = members();
    auto made = run(Array::assemble(context_, std::move(what), &authority_));
    if (made.ok()) array_ = std::move(made).value();
    return made.status();
  }
  Status stop() {
    Status status = run(array_->close());
    array_.reset();
    return status;
  }
  Task<Status> write_everywhere() {
    io::AlignedBuffer buffer(kBlock);
    uint64_t page = kChecksumsPerPage * kBlock;
    for (uint64_t at = 0; at + kBlock <= array_->info().size_bytes; at += page) {
      BB_CO_TRY(co_await array_->write(at, buffer.bytes()));
    }
    co_return Status();
  }
  void expect_little(const char* when) {
    uint64_t most = 8 * MiB + array_->info().size_bytes / 5000;
    uint64_t now = heap_bytes();
    EXPECT_LE(now - std::min(now, before_bytes_), most) << when;
  }

  std::unique_ptr<io::Reactor> reactor_ = std::move(io::Reactor::create()).value();
  std::unique_ptr<io::Network> network_ = io::make_tcp_network(*reactor_, nullptr);
  io::Context context_{.loop = *reactor_, .network = *network_, .reactor = reactor_.get()};
  FakeAuthority authority_;
  Shape shape_ = *parse_shape(GetParam(), kChunkDefaultBytes);
  std::vector<std::unique_ptr<SparseDevice>> drives_;
  std::unique_ptr<Array> array_;
  uint64_t before_bytes_ = 0;
};

TEST_P(ArrayMemory, IsBounded) {
  ASSERT_OK(create());
  expect_little("created");
  ASSERT_OK(run(write_everywhere()));
  expect_little("written to");
  ASSERT_OK(stop());
  ASSERT_OK(assemble());
  expect_little("assembled");
  ASSERT_OK(stop());
}

INSTANTIATE_TEST_SUITE_P(Levels, ArrayMemory, testing::Values("1.2", "10.4", "5.5", "6.10"));

}  // namespace
}  // namespace bb::raid
