// SPDX-License-Identifier: Apache-2.0
#include "sim/register_model.h"

#include <gtest/gtest.h>

namespace bb::sim {
namespace {

struct RegisterModelTest : testing::Test {
  RegisterModel model;

  RegisterModel::OpId write(uint64_t value, uint64_t from, uint64_t to) {
    auto op = model.begin_write(value, from);
    model.end_done(op, to);
    return op;
  }
  void read(uint64_t value, uint64_t from, uint64_t to) {
    model.end_read(model.begin_read(from), value, to);
  }
  void pair(uint64_t compared, uint64_t value, uint64_t from, uint64_t to) {
    model.end_done(model.begin_pair(compared, value, from), to);
  }
  void differs(uint64_t compared, uint64_t value, uint64_t from, uint64_t to) {
    model.end_differs(model.begin_pair(compared, value, from), to);
  }
};

TEST_F(RegisterModelTest, WhatIsInOrder) {
  read(0, 1, 2);
  pair(0, 1, 3, 6);
  write(2, 4, 5);  // at the same time as the pair: before or behind it
  read(2, 7, 8);
  differs(1, 3, 9, 10);
  pair(2, 4, 11, 12);
  read(4, 13, 14);
  EXPECT_EQ(model.check(), "");
  EXPECT_EQ(model.pairs_done(), 2u);
}

TEST_F(RegisterModelTest, OldAndNew) {
  write(1, 1, 2);
  write(2, 3, 4);
  read(1, 5, 6);
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, AWriteBetweenTheHalves) {
  write(1, 1, 2);
  auto op = model.begin_pair(1, 2, 3);
  write(3, 4, 5);
  model.end_done(op, 6);
  EXPECT_EQ(model.check(), "");  // the pair came first
  read(2, 7, 8);                 // it did not
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, TwoPairsReplaceTheSame) {
  pair(0, 1, 1, 4);
  pair(0, 2, 2, 3);
  EXPECT_EQ(model.check(), "1 and 2 have both replaced 0");
}

TEST_F(RegisterModelTest, WhatWasRefusedIsNotThere) {
  auto op = model.begin_write(1, 1);
  model.end_without_effect(op);
  read(0, 2, 3);
  EXPECT_EQ(model.check(), "");
  read(1, 4, 5);
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, WhatDifferedWroteNothing) {
  differs(7, 1, 1, 2);
  EXPECT_EQ(model.check(), "");
  read(1, 3, 4);
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, APairFindsWhatIsThere) {
  write(1, 1, 2);
  differs(1, 2, 3, 4);
  EXPECT_EQ(model.check(), "");  // if the write was replaced meanwhile, but by whom?
  read(1, 5, 6);
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, WhatWasNeverAnsweredMayHappenLate) {
  model.begin_write(1, 1);
  model.begin_pair(1, 2, 2);
  write(3, 3, 4);
  read(3, 5, 6);
  read(2, 7, 8);
  EXPECT_EQ(model.check(), "");
  read(3, 9, 10);
  EXPECT_NE(model.check(), "");
}

TEST_F(RegisterModelTest, NobodysValue) {
  read(9, 1, 2);
  EXPECT_EQ(model.check(), "9 was never written");
}

}  // namespace
}  // namespace bb::sim
