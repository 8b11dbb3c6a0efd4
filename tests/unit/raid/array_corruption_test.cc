// SPDX-License-Identifier: Apache-2.0
// Members changed at random while nobody looked, then assembled: never wrong data, never a crash.
// BB_CORRUPTIONS: how many times (the suite `slow` does 100,000).
#include <cstdlib>

#include "array_content.h"
#include "base/log.h"

namespace bb::raid {
namespace {

constexpr uint64_t kSmallDriveBytes = 3 * MiB;

class Corrupter {
 public:
  explicit Corrupter(const char* raid)
      : world_(raid, parse_shape(raid, 0)->level->id == RaidLevel::k1 ? 0 : 16 * KiB) {
    size_t count = world_.drives.size();
    world_.drives.clear();
    for (size_t i = 0; i < count; ++i) world_.add_drive(kSmallDriveBytes);
    world_.integrity = Integrity::kCrc32c;
  }

  void run(int times) {
    Status made = world_.create(false);
    ASSERT_TRUE(made.ok()) << made.to_string();
    ASSERT_TRUE(world_.in_sync().ok());
    Content content(world_);
    for (uint64_t at = 0; at < content.expected.size(); at += 64 * KiB) {
      ASSERT_TRUE(content.write(at, 64 * KiB).ok());
    }
    ASSERT_TRUE(world_.stop().ok());
    for (auto& drive : world_.drives)
      images_.emplace_back(drive->seen().begin(), drive->seen().end());
    records_ = world_.authority.records;
    for (int i = 0; i < times && !testing::Test::HasFailure(); ++i) once(content.expected);
    EXPECT_GT(times_read_, 0u);
  }

 private:
  void restore() {
    for (size_t i = 0; i < images_.size(); ++i) {
      std::ranges::copy(images_[i], world_.drives[i]->seen().begin());
      std::ranges::copy(images_[i], world_.drives[i]->platter().begin());
    }
    world_.authority.records = records_;
  }

  // Where what decides lies close together, and anywhere. A bitmap that is damaged is what a crash
  // may leave, and after one differences are no damage: so with the others' it is left alone.
  uint64_t somewhere(bool bitmap) {
    Geometry geometry = records_.begin()->second.geometry();
    switch (prng_.below(bitmap ? 5 : 4)) {
      case 0:
        return prng_.below(kSuperblockBytes);
      case 4:
        return kBitmapOffsetBytes + prng_.below(kBitmapPageBytes);
      case 2:
        return geometry.checksum_offset_bytes(0) +
               prng_.below(geometry.extent_bytes() - geometry.member_bytes);
      case 3:
        return superblock_b_offset_bytes(kSmallDriveBytes) + prng_.below(kSuperblockBytes);
      default:
        return geometry.data_offset_bytes + prng_.below(geometry.member_bytes);
    }
  }

  void damage(size_t drive, bool bitmap) {
    uint64_t at = somewhere(bitmap);
    uint64_t length =
        std::min<uint64_t>(prng_.chance(4) ? prng_.between(1, 9000) : 1, kSmallDriveBytes - at);
    auto value = static_cast<std::byte>(prng_.below(256));
    damaged_ += fmt::format("\n  drive {}: {} bytes at {}", drive, length, at);
    for (Bytes bytes : {world_.drives[drive]->seen(), world_.drives[drive]->platter()}) {
      for (uint64_t i = 0; i < length; ++i)
        bytes[at + i] ^= length == 1 ? value | std::byte{1} : value;
    }
  }

  void once(ConstBytes expected) {
    restore();
    damaged_.clear();
    uint64_t seed = prng_.next();
    prng_ = Prng(seed);
    bool one_member = prng_.chance(2);
    size_t victim = prng_.below(world_.drives.size());
    uint64_t count = prng_.between(1, 12);
    for (uint64_t i = 0; i < count; ++i) {
      damage(one_member ? victim : prng_.below(world_.drives.size()), one_member);
    }
    std::vector<size_t> all(world_.drives.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    Status started = world_.assemble(all);
    // What one member holds, the others hold too.
    if (one_member)
      ASSERT_TRUE(started.ok()) << "seed " << seed << ": " << started.to_string() << damaged_;
    if (!started.ok()) return;
    for (uint64_t at = 0; at < expected.size(); at += 64 * KiB) {
      std::vector<std::byte> data(64 * KiB);
      Status status = world_.run(World::read_task(world_.array.get(), at, &data));
      if (one_member)
        ASSERT_TRUE(status.ok()) << "seed " << seed << ": " << status.to_string() << damaged_;
      if (!status.ok()) continue;
      ++times_read_;
      ASSERT_TRUE(std::ranges::equal(data, expected.subspan(at, data.size())))
          << "seed " << seed << ": wrong data at " << at << damaged_;
    }
    Status stopped = world_.stop();
    if (one_member) ASSERT_TRUE(stopped.ok()) << "seed " << seed << ": " << stopped.to_string();
  }

  World world_;
  std::vector<std::vector<std::byte>> images_;
  std::map<Uuid, MembershipRecord> records_;
  Prng prng_{2026};
  std::string damaged_;  // what was done, for who has to find out why
  uint64_t times_read_ = 0;
};

TEST(ArrayCorruption, NeverWrongData) {
  const char* wanted = std::getenv("BB_CORRUPTIONS");
  int times = wanted != nullptr ? std::atoi(wanted) : 300;
  set_log_level(LogLevel::kOff);
  for (const char* raid : {"1.2", "10.4", "1E.3"}) Corrupter(raid).run(times / 3);
  set_log_level(LogLevel::kInfo);
}

}  // namespace
}  // namespace bb::raid
