// SPDX-License-Identifier: Apache-2.0
// The checksums of an array with parity, as its stripes see them.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

uint64_t StripePath::region_of(uint64_t stripe) const {
  return stripe * layout_.shape.chunk_bytes / core_.geometry_.region_size_bytes;
}

// After a crash what is recorded of dirty regions may be old. What the journal had was written
// wherever it belongs, so those regions are dirty too, before its entries no longer count.
io::Task<Status> StripePath::doubt_dirty() {
  if (BB_MUTANT(kTrustOld)) co_return Status();
  for (uint64_t stripe : store_->replayed()) {
    RegionRange region{region_of(stripe), 1};
    if (core_.intent_.dirty().test(region.first)) continue;
    core_.intent_.begin(region);
    Status status = co_await core_.persist(region);
    core_.intent_.end(region);
    BB_CO_TRY(std::move(status));
  }
  const RegionSet& dirty = core_.intent_.dirty();
  core_.unequal_.add(dirty);
  core_.copied_.clear_all();
  core_.flushing_.clear_all();
  core_.count_resync_total();
  uint64_t per_region = core_.geometry_.region_size_bytes / layout_.shape.chunk_bytes;
  for (uint64_t r = dirty.next(0); r < dirty.regions(); r = dirty.next(r + 1)) {
    uint64_t end = std::min(layout_.stripes, (r + 1) * per_region);
    for (uint64_t stripe = r * per_region; stripe < end; ++stripe) {
      store_->doubt(stripe, core_.doubtful_.test(r));
    }
  }
  co_return Status();
}

std::vector<uint64_t> StripePath::regions_of_rows(uint64_t first, uint64_t count) const {
  std::vector<uint64_t> regions;
  if (store_ == nullptr) {
    for (uint64_t r = 0; r < core_.geometry_.regions(); ++r) regions.push_back(r);
    return regions;
  }
  uint64_t end = std::min(layout_.rows, first + count);
  for (uint64_t row = first; row < end; ++row) {
    uint32_t stripe = store_->map().stripe_in(row);
    if (stripe != kNoStripe) regions.push_back(region_of(stripe));
  }
  std::ranges::sort(regions);
  auto rest = std::ranges::unique(regions);
  regions.erase(rest.begin(), rest.end());
  return regions;
}

void StripePath::doubt_rows(uint64_t first, uint64_t count) {
  if (store_ == nullptr) return;  // it doubts all that is dirty when it is opened
  uint64_t end = std::min(layout_.rows, first + count);
  for (uint64_t row = first; row < end; ++row) {
    uint32_t stripe = store_->map().stripe_in(row);
    if (stripe != kNoStripe) store_->doubt(stripe, true);
  }
}

// --- sums as the store sees them

io::Task<Status> StripePath::fetch(uint32_t slot, uint64_t place_bytes, uint64_t length_bytes,
                                   PinnedSums* pinned) {
  Member* member = holder(slot);
  if (!member->writable()) {
    co_return error(Code::k_unavailable, "{} is no member", core_.name_of(*member));
  }
  BB_CO_TRY(co_await core_.fetch_sums(member, place_bytes, length_bytes));
  if (pinned != nullptr) {
    pinned->pin(member->sums, place_bytes / kCheckedBlockBytes, length_bytes / kCheckedBlockBytes);
  }
  co_return Status();
}

uint32_t StripePath::recorded(uint32_t slot, uint64_t place_bytes) {
  Member* member = holder(slot);
  return member->writable() ? member->sums->at(place_bytes / kCheckedBlockBytes) : kNoChecksum;
}

void StripePath::record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums) {
  Member* member = holder(slot);
  if (member->writable()) core_.record_sums(*member, place_bytes, sums);
}

void StripePath::found_wrong(uint32_t slot, uint64_t blocks) {
  holder(slot)->checksum_errors += blocks;
}

void StripePath::repaired(uint32_t slot) { ++holder(slot)->repaired; }

}  // namespace bb::raid
