// SPDX-License-Identifier: Apache-2.0
#include "sim/disk_model.h"

#include <gtest/gtest.h>

namespace bb::sim {
namespace {

constexpr uint64_t kSectors = 8;

class DiskModelTest : public ::testing::Test {
 protected:
  DiskModel::OpId write(uint64_t first, uint64_t count, bool ok = true, bool fua = false) {
    auto op = model.begin_write(first, count, false, fua);
    model.end_write(op, ok);
    return op;
  }
  void flush() { model.end_flush(model.begin_flush(), true); }
  // Reads one sector that holds `op` (0: zeroes); true when the model allows it.
  bool reads(uint64_t sector, DiskModel::OpId op) {
    return answers(model.begin_read(), sector, op);
  }
  bool answers(DiskModel::OpId read, uint64_t sector, DiskModel::OpId op) {
    std::vector<std::byte> bytes(512);
    if (op != 0) model.fill(op, sector, bytes);
    return model.end_read(read, sector, bytes).empty();
  }
  DiskModel model{kSectors};
};

TEST_F(DiskModelTest, AnAcknowledgedWriteIsTheOnlyAnswer) {
  EXPECT_TRUE(reads(1, 0));
  auto a = write(1, 2);
  EXPECT_FALSE(reads(1, 0));
  EXPECT_TRUE(reads(1, a));
  auto b = write(1, 1);
  EXPECT_FALSE(reads(1, a));
  EXPECT_TRUE(reads(1, b));
  EXPECT_TRUE(reads(2, a));
  EXPECT_TRUE(reads(3, 0));
}

TEST_F(DiskModelTest, WrongPlaceAndRotAreSeen) {
  auto a = write(1, 1);
  std::vector<std::byte> bytes(512);
  model.fill(a, 2, bytes);
  EXPECT_FALSE(model.end_read(model.begin_read(), 1, bytes).empty());
  model.fill(a, 1, bytes);
  bytes[300] ^= std::byte{4};
  EXPECT_FALSE(model.end_read(model.begin_read(), 1, bytes).empty());
}

TEST_F(DiskModelTest, APendingWriteMayBeSeenOrNotInAnyOrder) {
  auto a = write(1, 1);
  auto b = model.begin_write(1, 1, false, false);
  EXPECT_TRUE(reads(1, a));
  EXPECT_TRUE(reads(1, b));
  EXPECT_TRUE(reads(1, a));
  model.end_write(b, true);
  EXPECT_FALSE(reads(1, a));
  EXPECT_TRUE(reads(1, b));
}

TEST_F(DiskModelTest, OverlappingWritesHaveNoOrderUntilRead) {
  auto a = model.begin_write(1, 1, false, false);
  auto b = model.begin_write(1, 1, false, false);
  model.end_write(a, true);
  model.end_write(b, true);
  EXPECT_FALSE(reads(1, 0));
  EXPECT_TRUE(reads(1, a));
  EXPECT_FALSE(reads(1, b));
  EXPECT_TRUE(reads(1, a));
}

TEST_F(DiskModelTest, AFailedWriteMayHaveHappenedButStaysAsRead) {
  auto a = write(1, 1);
  auto b = write(1, 1, false);
  DiskModel copy = model;
  EXPECT_TRUE(reads(1, b));
  EXPECT_FALSE(reads(1, a));
  model = copy;
  EXPECT_TRUE(reads(1, a));
  EXPECT_FALSE(reads(1, b));
}

TEST_F(DiskModelTest, AReadInFlightMayReturnWhatWasReplacedMeanwhile) {
  auto a = write(1, 1);
  auto early = model.begin_read();
  auto b = write(1, 1);
  auto late = model.begin_read();
  EXPECT_TRUE(answers(early, 1, a));
  EXPECT_FALSE(answers(late, 1, a));
  EXPECT_TRUE(reads(1, b));
}

TEST_F(DiskModelTest, UnflushedWritesMayBeLostAndFlushedOnesNot) {
  auto a = write(1, 1);
  flush();
  auto b = write(1, 1);
  auto c = write(1, 1);
  model.lose_unflushed();
  DiskModel copy = model;
  EXPECT_FALSE(reads(1, 0));
  for (auto op : {a, b, c}) {
    model = copy;
    EXPECT_TRUE(reads(1, op)) << op;
  }
  EXPECT_FALSE(reads(1, b));
}

TEST_F(DiskModelTest, AFlushThatBeganBeforeTheWriteEndedSaysNothingOfIt) {
  auto a = write(1, 1);
  flush();
  auto b = model.begin_write(1, 1, false, false);
  auto early = model.begin_flush();
  model.end_write(b, true);
  model.end_flush(early, true);
  model.lose_unflushed();
  EXPECT_TRUE(reads(1, a));
}

TEST_F(DiskModelTest, AForcedWriteIsNotLost) {
  auto a = write(1, 1);
  auto b = write(1, 1, true, true);
  model.lose_unflushed();
  EXPECT_FALSE(reads(1, a));
  EXPECT_TRUE(reads(1, b));
}

TEST_F(DiskModelTest, ZeroesAreAWriteToo) {
  write(1, 1);
  auto op = model.begin_write(1, 1, true, false);
  model.end_write(op, true);
  EXPECT_TRUE(reads(1, 0));
}

}  // namespace
}  // namespace bb::sim
