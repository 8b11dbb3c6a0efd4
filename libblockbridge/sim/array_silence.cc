// SPDX-License-Identifier: Apache-2.0
// Drives that say nothing of what goes wrong, and how the world keeps that within what checksums
// and redundancy can bear.
#include <algorithm>
#include <numeric>

#include "raid/bitmap_page.h"
#include "raid/stripe_layout.h"
#include "raid/stripe_page.h"
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
    // A damaged page shows itself, and nothing is lost with it.
    std::vector<std::byte> right(kSector);
    uint64_t sector = at / kSector * kSector;
    if (!sums) medium.read_right(sector, right);
    medium.flip_bit(at, static_cast<uint32_t>(prng_.below(8)));
    if (!sums) medium.mark_wrong(sector, right);
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

// What a crash leaves in dirty regions is told from silent damage by nothing: to have both in one
// place is beyond what checksums that are written back later can bear. The world mends such damage.
void ArrayWorld::mend_dirty_regions() {
  for (Slot& slot : slots_) {
    slot.drive->faults().lost_write_one_in = 0;
    slot.drive->faults().misdirected_one_in = 0;
  }
  if (!authority_.exists() || model_ == nullptr || wrong_sectors() == 0) return;
  raid::RegionSet dirty = dirty_regions();
  std::vector<std::set<uint64_t>> rows = regions_of_rows(false);
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].drive->medium().wrong_sectors() == 0 || member_of(i) == nullptr) continue;
    mend(i, [&](uint64_t place) {
      if (rows.empty()) return dirty.test(place / authority_.record().region_size_bytes);
      const std::set<uint64_t>& regions = rows[place / shape_.chunk_bytes];
      return regions.empty() ||
             std::ranges::any_of(regions, [&](uint64_t r) { return dirty.test(r); });
    });
  }
}

// Where nothing lies nobody looks.
void ArrayWorld::mend_free_rows(size_t index, bool newest_only) {
  std::vector<std::set<uint64_t>> rows = regions_of_rows(newest_only);
  if (rows.empty()) return;
  mend(index, [&](uint64_t place) { return rows[place / shape_.chunk_bytes].empty(); });
}

void ArrayWorld::mend(size_t index, const std::function<bool(uint64_t place_bytes)>& wanted) {
  SectorStore& medium = slots_[index].drive->medium();
  uint64_t data = authority_.record().data_offset_bytes;
  for (uint64_t at : medium.wrong_places()) {
    if (wanted(at - data)) medium.mend(at);
  }
}

// Of levels with parity: the regions whose stripes lie in each row, by any page of the map that
// there is, or by the newest ones. Nothing of other levels.
std::vector<std::set<uint64_t>> ArrayWorld::regions_of_rows(bool newest_only) const {
  if (shape_.level->parity == 0) return {};
  const raid::MembershipRecord& record = authority_.record();
  raid::StripeLayout layout =
      raid::layout_stripes(uuid_, shape_, record.data_offset_bytes, record.member_bytes);
  std::vector<std::set<uint64_t>> named(layout.rows);
  std::vector<std::byte> bytes(raid::kStripePageBytes);
  for (uint64_t first = 0; first < layout.stripes; first += raid::kStripesPerPage) {
    auto page = static_cast<uint32_t>(first / raid::kStripesPerPage);
    uint64_t count = std::min(raid::kStripesPerPage, layout.stripes - first);
    std::map<uint64_t, std::vector<uint32_t>> images;  // by generation
    for (const Slot& slot : slots_) {
      for (uint64_t copy = 0; copy < raid::kStripePageCopies; ++copy) {
        uint64_t at = layout.map_offset_bytes + raid::stripe_page_offset_bytes(page, copy);
        slot.drive->medium().read(at, bytes);
        std::vector<uint32_t> rows(count);
        auto head = raid::decode_stripe_page(uuid_, page, bytes, layout.rows, rows);
        if (head.ok()) images[head->generation] = rows;
      }
    }
    if (images.empty()) {
      images[0].resize(count);
      std::iota(images[0].begin(), images[0].end(), static_cast<uint32_t>(first));
    }
    if (newest_only) images.erase(images.begin(), std::prev(images.end()));
    for (const auto& [generation, rows] : images) {
      for (uint64_t i = 0; i < count; ++i) {
        named[rows[i]].insert((first + i) * shape_.chunk_bytes / record.region_size_bytes);
      }
    }
  }
  return named;
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
      if (counts) mend_free_rows(slot, true);
      wrong = wrong || (counts && slots_[slot].drive->medium().wrong_sectors() > 0);
    }
    if (!wrong) co_return;
    co_await world_.sleep_for(50 * kMs);
  }
}

}  // namespace bb::sim
