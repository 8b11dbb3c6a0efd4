// SPDX-License-Identifier: Apache-2.0
// Drives that say nothing of what goes wrong, and how the world keeps that within what checksums
// and redundancy can bear.
#include <algorithm>

#include "raid/bitmap_page.h"
#include "sim/array_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSector = SectorStore::kSectorBytes;
constexpr uint64_t kMs = 1'000'000;

}  // namespace

// Not while copies are compared after a crash or at first: what their checksums were is not known.
bool ArrayWorld::may_lie() const {
  if (!options_.checked || life_ == nullptr || life_->array == nullptr) return false;
  return life_->array->describe().unequal_regions == 0;
}

io::Task<void> ArrayWorld::lie_silently(size_t index, uint64_t duration_ns) {
  raid::Geometry geometry = authority_.record().geometry();
  SimDriveFaults& faults = slots_[index].drive->faults();
  faults.silent_from_bytes = geometry.data_offset_bytes;
  faults.silent_to_bytes = geometry.data_offset_bytes + geometry.member_bytes;
  uint64_t how = prng_.below(3);
  if (how == 0) {
    rot(index);
    co_return;
  }
  uint32_t one_in = static_cast<uint32_t>(prng_.between(1, 6));
  if (how == 1) faults.lost_write_one_in = one_in;
  if (how == 2) faults.misdirected_one_in = one_in;
  co_await world_.sleep_for(duration_ns);
  faults = {};
}

// Of data, and of the checksums themselves.
void ArrayWorld::rot(size_t index) {
  raid::Geometry geometry = authority_.record().geometry();
  SectorStore& medium = slots_[index].drive->medium();
  uint64_t count = prng_.between(1, 12);
  for (uint64_t i = 0; i < count; ++i) {
    bool sums = prng_.chance(8);
    uint64_t from = sums ? geometry.checksum_offset_bytes(0) : geometry.data_offset_bytes;
    uint64_t length = sums ? geometry.checksum_offset_bytes(geometry.checksum_pages()) - from
                           : geometry.member_bytes;
    if (!sums && prng_.chance(2)) {  // where the host works
      from += hot_first_ * block_ / shape_.members;
      length = std::min(length, hot_count_ * block_);
    }
    uint64_t at = from + prng_.below(length);
    medium.flip_bit(at, static_cast<uint32_t>(prng_.below(8)));
    // A damaged page shows itself, and nothing is lost with it.
    if (!sums) medium.mark_wrong(at);
  }
}

// As the next dataplane will find them.
raid::RegionSet ArrayWorld::dirty_regions() const {
  raid::Geometry geometry = authority_.record().geometry();
  raid::RegionSet dirty(geometry.regions());
  std::vector<std::byte> page(raid::kBitmapPageBytes);
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (member_of(i) == nullptr) continue;
    for (uint32_t number = 0; number < geometry.pages(); ++number) {
      uint64_t at = raid::kBitmapOffsetBytes + number * raid::kBitmapPageBytes;
      if (!slots_[i].drive->medium().read(at, page)) continue;
      (void)raid::decode_bitmap_page(uuid_, number, page, dirty);
    }
  }
  return dirty;
}

// A place where a piece of the array is, on a drive where nothing of it is wrong.
const SectorStore* ArrayWorld::right_copy(uint64_t array_bytes, uint64_t length_bytes,
                                          uint64_t* at_bytes) {
  uint64_t data = authority_.record().data_offset_bytes;
  for (uint32_t copy = 0; copy < shape_.copies; ++copy) {
    raid::CopyPlace place = raid::copy_place(shape_, array_bytes, copy);
    std::string label;
    const SectorStore* medium = in_sync_medium(place.slot, &label);
    if (medium == nullptr) continue;
    bool right = true;
    for (uint64_t at = 0; at < length_bytes; at += kSector) {
      right = right && !medium->is_wrong(data + place.offset_bytes + at);
    }
    *at_bytes = data + place.offset_bytes;
    std::vector<std::byte> seen(length_bytes);
    if (right && medium->read(*at_bytes, seen)) return medium;
  }
  return nullptr;
}

// What a crash leaves in dirty regions is told from silent damage by nothing: to have both in one
// place is beyond what checksums that are written back later can bear. The world mends such damage.
void ArrayWorld::mend_dirty_regions() {
  for (Slot& slot : slots_) {
    slot.drive->faults().lost_write_one_in = 0;
    slot.drive->faults().misdirected_one_in = 0;
  }
  if (!authority_.exists() || model_ == nullptr || wrong_sectors() == 0) return;
  raid::RegionSet dirty = dirty_regions();
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].drive->medium().wrong_sectors() > 0 && member_of(i) != nullptr) mend(i, dirty);
  }
}

void ArrayWorld::mend(size_t index, const raid::RegionSet& dirty) {
  raid::Geometry geometry = authority_.record().geometry();
  SectorStore& medium = slots_[index].drive->medium();
  std::vector<std::byte> sector(kSector);
  for (uint64_t at = 0; at < geometry.size_bytes(); at += kSector) {
    for (uint32_t copy = 0; copy < shape_.copies; ++copy) {
      raid::CopyPlace place = raid::copy_place(shape_, at, copy);
      uint64_t here = geometry.data_offset_bytes + place.offset_bytes;
      if (place.slot != member_of(index)->slot || !medium.is_wrong(here)) continue;
      if (!dirty.test(place.offset_bytes / geometry.region_size_bytes)) continue;
      uint64_t there = 0;
      const SectorStore* right = right_copy(at, kSector, &there);
      if (right == nullptr || !right->read(there, sector)) continue;
      medium.write(here, sector, true);
    }
  }
}

uint64_t ArrayWorld::wrong_sectors() const {
  uint64_t wrong = 0;
  for (const Slot& slot : slots_) wrong += slot.drive->medium().wrong_sectors();
  return wrong;
}

io::Task<void> ArrayWorld::scrub(Life* life) {
  note("scrub");
  Result<raid::ScrubReport> report = co_await life->array->scrub({});
  note("scrubbed", static_cast<uint64_t>(report.code()), report.ok() ? report->repaired_blocks : 0);
}

// The faults have stopped: what is wrong is found and mended, before each copy must stand alone.
io::Task<void> ArrayWorld::scrub_until_right() {
  for (int i = 0; i < 200 && life_ != nullptr && life_->array != nullptr; ++i) {
    co_await scrub(life_.get());
    bool wrong = false;
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      const raid::MemberRecord* member = member_of(slot);
      bool counts = member != nullptr && member->state == raid::MemberState::kInSync;
      wrong = wrong || (counts && slots_[slot].drive->medium().wrong_sectors() > 0);
    }
    if (!wrong) co_return;
    co_await world_.sleep_for(50 * kMs);
  }
}

}  // namespace bb::sim
