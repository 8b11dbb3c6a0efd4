// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive_reservations.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "io/device_uri.h"
#include "io/fault_device.h"
#include "support/world.h"

namespace bb::backplane {
namespace {

using io::FaultRule;
using io::nvme::ReservationState;
using io::nvme::ReservationType;

const Uuid kDrive = Uuid::parse("00112233-4455-4677-8899-aabbccddeeff").value();

ReservationState state_of(uint32_t generation) {
  ReservationState state{.generation = generation,
                         .persistent = true,
                         .type = ReservationType::kWriteExclusive,
                         .holder = kDrive};
  state.registrants = {{kDrive, generation}};
  return state;
}

class DriveReservationsTest : public testing::Test {
 protected:
  DriveReservationsTest() {
    auto inner = world_.run(io::open_device(world_.context, "mem:32M"));
    device_ = std::make_unique<io::FaultDevice>(world_.context.loop, std::move(inner).value(), 1);
  }
  ~DriveReservationsTest() override { (void)world_.run(device_->close()); }

  // What a disk node that starts now would find.
  Result<ReservationState> found() {
    DriveReservations fresh(*device_, kDrive);
    return world_.run(fresh.load());
  }

  test::World world_;
  std::unique_ptr<io::FaultDevice> device_;
};

TEST_F(DriveReservationsTest, SavesAndLoads) {
  DriveReservations store(*device_, kDrive);
  auto none = world_.run(store.load());
  ASSERT_TRUE(none.ok()) << none.status().to_string();
  EXPECT_EQ(*none, ReservationState());
  for (uint32_t i = 1; i <= 5; ++i) {
    ASSERT_TRUE(world_.run(store.save(state_of(i))).ok());
    EXPECT_EQ(*found(), state_of(i));
  }
  DriveReservations other(*device_, Uuid{});
  EXPECT_EQ(world_.run(other.load()).code(), Code::k_corrupt);
}

// The drive fails for good (a crash) at the n-th write or flush, with the write done in part or not
// at all: the state before is found, or the new one, and never another; what was answered stays.
TEST_F(DriveReservationsTest, CrashAtEveryStep) {
  bool torn_seen = false;
  for (auto kind : {io::FaultKind::kError, io::FaultKind::kTornWrite}) {
    for (uint64_t fail_at = 0;; ++fail_at) {
      uint32_t before = static_cast<uint32_t>(found()->generation);
      DriveReservations store(*device_, kDrive);
      ASSERT_TRUE(world_.run(store.load()).ok());
      uint64_t hits = device_->hits(kind);
      device_->add({.kind = kind,
                    .ops = FaultRule::kWrites | FaultRule::kFlushes,
                    .skip = fail_at,
                    .sticky = true});
      Status status = world_.run(store.save(state_of(before + 1)));
      bool failed = device_->hits(kind) > hits;
      device_->clear();
      EXPECT_EQ(status.ok(), !failed);
      auto after = found();
      ASSERT_TRUE(after.ok()) << "at " << fail_at << ": " << after.status().to_string();
      EXPECT_TRUE(*after == state_of(before + 1) || (failed && after->generation == before));
      torn_seen = torn_seen || (failed && kind == io::FaultKind::kTornWrite);
      if (!failed) break;
      ASSERT_LT(fail_at, 10u);
    }
  }
  EXPECT_TRUE(torn_seen);
}

// One error, and the drive goes on: the command failed, so it did not happen.
TEST_F(DriveReservationsTest, AFailedSaveIsUndone) {
  DriveReservations store(*device_, kDrive);
  ASSERT_TRUE(world_.run(store.load()).ok());
  ASSERT_TRUE(world_.run(store.save(state_of(1))).ok());
  for (uint64_t fail_at = 0; fail_at < 4; ++fail_at) {
    device_->add({.kind = io::FaultKind::kError,
                  .ops = FaultRule::kWrites | FaultRule::kFlushes,
                  .skip = fail_at,
                  .times_left = 1});
    EXPECT_EQ(world_.run(store.save(state_of(2))).code(), Code::k_io_error) << fail_at;
    device_->clear();
    EXPECT_EQ(*found(), state_of(1)) << fail_at;
  }
  ASSERT_TRUE(world_.run(store.save(state_of(3))).ok());
  EXPECT_EQ(*found(), state_of(3));
}

TEST_F(DriveReservationsTest, OneUnreadableCopyIsEnough) {
  DriveReservations store(*device_, kDrive);
  ASSERT_TRUE(world_.run(store.load()).ok());
  auto unreadable = [this](int copy) {
    uint64_t at = kReservationOffsetsBytes[copy];
    device_->add({.kind = io::FaultKind::kError,
                  .ops = FaultRule::kReads,
                  .begin_bytes = at,
                  .end_bytes = at + 4096});
  };
  unreadable(0);  // while there was never a record: half of it may have held anything
  EXPECT_EQ(found().code(), Code::k_io_error);
  device_->clear();
  ASSERT_TRUE(world_.run(store.save(state_of(1))).ok());
  for (int copy : {0, 1}) {
    unreadable(copy);
    EXPECT_EQ(*found(), state_of(1));
    device_->clear();
  }
  unreadable(0);
  unreadable(1);
  EXPECT_EQ(found().code(), Code::k_io_error);
}

}  // namespace
}  // namespace bb::backplane
