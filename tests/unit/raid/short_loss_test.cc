// SPDX-License-Identifier: Apache-2.0
// What is copied onto a member that was away for a short time: the regions written to meanwhile,
// and no more than a tenth beyond, also when the array's process died or the array moved before the
// member was back.
#include <set>

#include "array_world.h"
#include "base/prng.h"
#include "raid/stripe_layout.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 16 * KiB;  // a quarter of a region
constexpr uint64_t kBlock = 4 * KiB;
constexpr size_t kAway = 1;

enum class Meanwhile : uint8_t { kNothing, kCrash, kPowerCut, kMove };

struct ShortLoss : World {
  explicit ShortLoss(const char* raid, Integrity of_blocks)
      : World(raid, parse_shape(raid, 0)->level->id == RaidLevel::k1 ? 0 : kChunk) {
    integrity = of_blocks;
  }
  Geometry geometry() const { return authority.records.begin()->second.geometry(); }
  // Of bytes that begin where data lie: no bitmap, map, journal or checksums.
  void count_writes() {
    uint64_t from = geometry().data_offset_bytes;
    uint64_t length = geometry().member_bytes;
    if (shape.level->parity > 0) length = stripe_rows(shape, length) * shape.chunk_bytes;
    drives[kAway]->fault = [this, from, length](const io::IoRequest& request) {
      bool data = request.offset_bytes >= from && request.offset_bytes < from + length;
      if (data && request.op == io::IoOp::kWrite) copied_bytes += request.length_bytes;
      return Status();
    };
  }
  void write_anywhere(int count) {
    uint64_t blocks = array->info().size_bytes / kBlock;
    for (int i = 0; i < count; ++i) {
      uint64_t at = prng.below(blocks) * kBlock;
      ASSERT_OK(write(at, kBlock, i + 1));
      RegionRange range = geometry().range_of(at, kBlock);
      for (uint64_t r = 0; r < range.count; ++r) regions.insert(range.first + r);
    }
  }
  void happens(Meanwhile what) {
    if (what == Meanwhile::kNothing) return;
    if (what == Meanwhile::kMove) {
      ASSERT_OK(stop());
      for (auto& drive : drives) drive->reopen();
      ++options.epoch;
    } else {
      if (what == Meanwhile::kPowerCut) ASSERT_OK(flush());
      crash(what == Meanwhile::kPowerCut);
    }
    std::vector<size_t> all(drives.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    ASSERT_OK(assemble(all));
  }

  Prng prng{3};
  std::set<uint64_t> regions;
  uint64_t copied_bytes = 0;
};

void copies_what_was_dirtied(const char* raid, Integrity integrity, Meanwhile meanwhile) {
  ShortLoss world(raid, integrity);
  ASSERT_OK(world.create());
  world.write_anywhere(40);
  ASSERT_OK(world.flush());
  ASSERT_EQ(world.dirty_at_last(), 0u);
  world.regions.clear();
  Uuid away = world.member(kAway);
  ASSERT_OK(world.run(world.array->fail_member(away, "test")));
  world.write_anywhere(24);
  world.happens(meanwhile);
  if (testing::Test::HasFatalFailure()) return;
  world.count_writes();
  ASSERT_OK(world.run(world.array->readmit_member(away)));
  ASSERT_OK(world.in_sync());
  uint64_t dirtied = world.regions.size() * kRegion;
  ASSERT_EQ(world.array->describe().region_size_bytes, kRegion);
  ASSERT_LT(4 * world.regions.size(), 3 * world.array->describe().regions);  // not all there is
  EXPECT_GT(world.copied_bytes, 0u);
  EXPECT_LE(10 * world.copied_bytes, 11 * dirtied);
}

class CopiesAfterAShortLoss : public testing::TestWithParam<const char*> {};

TEST_P(CopiesAfterAShortLoss, AreWhatWasDirtied) {
  for (Integrity integrity : {Integrity::kNone, Integrity::kCrc32c}) {
    for (Meanwhile meanwhile :
         {Meanwhile::kNothing, Meanwhile::kCrash, Meanwhile::kPowerCut, Meanwhile::kMove}) {
      SCOPED_TRACE(fmt::format("integrity {}, meanwhile {}", static_cast<int>(integrity),
                               static_cast<int>(meanwhile)));
      copies_what_was_dirtied(GetParam(), integrity, meanwhile);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, CopiesAfterAShortLoss,
                         testing::Values("1.2", "1.3", "10.4", "10.6.3", "5.5", "6.6"));

}  // namespace
}  // namespace bb::raid
