// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "base/prng.h"
#include "io/buffer.h"
#include "raid/cell_solver.h"

namespace bb::raid {
namespace {

// A column of random blocks with right parity, all recorded.
struct Column {
  ParityCode code;
  io::AlignedBuffer memory;
  std::vector<Cell> cells;
  std::vector<std::vector<std::byte>> right;

  Column(uint32_t data, uint32_t parity, uint64_t seed = 1)
      : code(data, parity), memory((data + parity) * kCheckedBlockBytes), cells(data + parity) {
    Prng prng(seed);
    std::vector<std::byte*> blocks;
    for (size_t i = 0; i < cells.size(); ++i) {
      blocks.push_back(memory.data() + i * kCheckedBlockBytes);
      cells[i] = {.state = Cell::State::kRead, .data = blocks[i]};
      if (i < data) prng.fill({blocks[i], kCheckedBlockBytes});
    }
    code.encode(blocks.data(), blocks.data() + data, kCheckedBlockBytes);
    for (size_t i = 0; i < cells.size(); ++i) {
      right.emplace_back(blocks[i], blocks[i] + kCheckedBlockBytes);
      cells[i].found = cells[i].recorded = block_checksum(right[i]);
    }
  }
  void damage(size_t i) {
    cells[i].data[77 + i] ^= std::byte{0x10};
    cells[i].found = block_checksum({cells[i].data, kCheckedBlockBytes});
  }
  void lose(size_t i, Cell::State state) {
    std::memset(cells[i].data, 0xee, kCheckedBlockBytes);
    uint32_t recorded = state == Cell::State::kAbsent ? kNoChecksum : cells[i].recorded;
    cells[i] = {.state = state, .data = cells[i].data, .recorded = recorded};
  }
  std::optional<uint64_t> solve(Trust trust) { return CellSolver(code).solve(cells, trust); }
  bool all_right() const {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (std::memcmp(cells[i].data, right[i].data(), kCheckedBlockBytes) != 0) return false;
    }
    return true;
  }
};

constexpr Trust kAll[] = {Trust::kRecorded, Trust::kOld, Trust::kDoubtful};

TEST(CellSolver, NothingIsAmissAndNothingIsMade) {
  for (Trust trust : kAll) {
    Column column(4, 2);
    EXPECT_EQ(column.solve(trust), uint64_t{0});
    column.cells[2].recorded = kNoChecksum;
    EXPECT_EQ(column.solve(trust), uint64_t{0});
  }
}

TEST(CellSolver, WhatIsLostOrWrongIsMadeWithinTheParity) {
  for (uint32_t parity : {1u, 2u}) {
    for (Trust trust : kAll) {
      for (uint32_t i = 0; i < 3 + parity; ++i) {
        Column wrong(3, parity, 7);
        wrong.damage(i);
        EXPECT_EQ(wrong.solve(trust), uint64_t{1} << i) << parity << " " << i;
        EXPECT_TRUE(wrong.all_right());
        Column bad(3, parity);
        bad.lose(i, Cell::State::kUnreadable);
        EXPECT_EQ(bad.solve(trust), uint64_t{1} << i);
        EXPECT_TRUE(bad.all_right());
      }
    }
  }
  for (uint32_t i = 0; i < 5; ++i) {
    for (uint32_t j = 0; j < i; ++j) {
      Column column(3, 2);
      column.lose(j, Cell::State::kAbsent);
      column.damage(i);
      EXPECT_EQ(column.solve(Trust::kRecorded), uint64_t{1} << i | uint64_t{1} << j);
      EXPECT_TRUE(column.all_right());
    }
  }
}

TEST(CellSolver, MoreThanTheParityIsNeverGuessed) {
  for (Trust trust : kAll) {
    Column column(4, 1);
    column.damage(0);
    column.damage(3);
    EXPECT_EQ(column.solve(trust), std::nullopt);
    Column absent(4, 1);
    absent.lose(0, Cell::State::kAbsent);
    absent.damage(3);
    // After a crash what is there may be newer than what is recorded; without one it may not.
    bool old = trust == Trust::kOld;
    EXPECT_EQ(absent.solve(trust).has_value(), old);
  }
}

// A block that is older than what is recorded, on a drive whose checksums are older too.
TEST(CellSolver, AStaleMemberIsFoundByTwoParities) {
  for (uint32_t parity : {1u, 2u}) {
    Column column(3, parity);
    column.damage(1);
    column.cells[1].recorded = column.cells[1].found;
    if (parity == 1) {
      EXPECT_EQ(column.solve(Trust::kRecorded), std::nullopt);
    } else {
      EXPECT_EQ(column.solve(Trust::kRecorded), uint64_t{2});
      EXPECT_TRUE(column.all_right());
    }
  }
}

TEST(CellSolver, ARecordThatIsOldDoesNotMakeABlockWrong) {
  for (Trust trust : {Trust::kOld, Trust::kDoubtful}) {
    Column column(3, 1);
    column.cells[0].recorded = 12345;
    column.cells[3].recorded = 54321;
    EXPECT_EQ(column.solve(trust), uint64_t{0});
    EXPECT_TRUE(column.all_right());
  }
  // A page that its drive did not write: what parity makes is what is there.
  Column column(3, 1);
  column.cells[0].recorded = 12345;
  EXPECT_EQ(column.solve(Trust::kRecorded), uint64_t{1});
  EXPECT_TRUE(column.all_right());
}

TEST(CellSolver, WhereNothingIsRecordedTheOthersProveThatABlockIsWrong) {
  for (Trust trust : {Trust::kRecorded, Trust::kDoubtful}) {
    Column column(3, 1);
    column.damage(2);
    column.cells[2].recorded = kNoChecksum;
    EXPECT_EQ(column.solve(trust), uint64_t{4});
    EXPECT_TRUE(column.all_right());
    Column two(3, 1);
    two.damage(2);
    two.cells[1].recorded = two.cells[2].recorded = kNoChecksum;
    EXPECT_EQ(two.solve(trust), std::nullopt);
  }
}

TEST(CellSolver, AfterACrashNothingIsBlamedWithoutAProof) {
  Column column(3, 1);
  column.damage(2);
  column.cells[2].recorded = 999;  // as old as the damage is unknown
  EXPECT_EQ(column.solve(Trust::kOld), std::nullopt);
}

}  // namespace
}  // namespace bb::raid
