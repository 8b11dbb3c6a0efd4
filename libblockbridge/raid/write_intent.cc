// SPDX-License-Identifier: Apache-2.0
#include "raid/write_intent.h"

#include <algorithm>

#include "base/mutant.h"
#include "raid/bitmap_page.h"

namespace bb::raid {

WriteIntent::WriteIntent(Uuid array, Geometry geometry)
    : array_(array),
      geometry_(geometry),
      dirty_(geometry.regions()),
      durable_(geometry.regions()),
      image_(geometry.regions()),
      regions_(geometry.regions()),
      generations_(geometry.pages()),
      wanted_(geometry.pages()) {
  batch_.reserve(geometry.pages());
}

void WriteIntent::begin(RegionRange regions) {
  for (uint64_t r = regions.first; r < regions.first + regions.count; ++r) {
    ++regions_[r].in_flight;
    dirty_.set(r);
  }
}

void WriteIntent::end(RegionRange regions) {
  for (uint64_t r = regions.first; r < regions.first + regions.count; ++r) {
    BB_CHECK(regions_[r].in_flight > 0, "region {} has no write in flight", r);
    --regions_[r].in_flight;
    regions_[r].ended = static_cast<uint32_t>(epoch_);
  }
}

bool WriteIntent::durable(RegionRange regions) const {
  for (uint64_t r = regions.first; r < regions.first + regions.count; ++r) {
    if (!durable_.test(r)) return false;
  }
  return true;
}

void WriteIntent::mark(const RegionSet& regions) {
  for (uint64_t r = regions.next(0); r < regions.regions(); r = regions.next(r + 1)) {
    dirty_.set(r);
    regions_[r].ended = static_cast<uint32_t>(epoch_);
  }
}

void WriteIntent::mark_all() {
  dirty_.set_all();
  for (Region& region : regions_) region.ended = static_cast<uint32_t>(epoch_);
}

void WriteIntent::want(uint64_t page) {
  if (wanted_[page]) return;
  wanted_[page] = true;
  ++wanted_count_;
}

void WriteIntent::request(RegionRange regions) {
  for (uint64_t r = regions.first; r < regions.first + regions.count; ++r) {
    // A batch under way that carries the bit is enough; what it misses waits for the next.
    if (!durable_.test(r) && !(in_batch_ && image_.test(r) && batch_has(r))) {
      want(r / kRegionsPerPage);
    }
  }
}

void WriteIntent::request_all() {
  for (uint64_t page = 0; page < generations_.size(); ++page) want(page);
}

const std::vector<uint32_t>& WriteIntent::batch_begin() {
  BB_CHECK(!in_batch_, "a batch is under way");
  in_batch_ = true;
  batch_.clear();
  for (uint32_t page = 0; page < wanted_.size(); ++page) {
    if (!wanted_[page]) continue;
    wanted_[page] = false;
    batch_.push_back(page);
    ++generations_[page];
    uint64_t first = page * kRegionsPerPage;
    uint64_t end = std::min(first + kRegionsPerPage, dirty_.regions());
    image_.copy_range(dirty_, first, end - first);
    // A member may hold the new image from now on: only bits in both may be relied on.
    durable_.keep_range(image_, first, end - first);
  }
  wanted_count_ = 0;
  return batch_;
}

bool WriteIntent::batch_has(uint64_t region) const {
  auto page = static_cast<uint32_t>(region / kRegionsPerPage);
  return std::ranges::binary_search(batch_, page);
}

void WriteIntent::encode(uint32_t page, Bytes into) const {
  encode_bitmap_page({.array = array_, .page = page, .generation = generations_[page]}, image_,
                     into);
}

void WriteIntent::batch_end(bool written) {
  BB_CHECK(in_batch_, "no batch is under way");
  in_batch_ = false;
  for (uint32_t page : batch_) {
    if (!written) {
      want(page);
      continue;
    }
    uint64_t first = page * kRegionsPerPage;
    uint64_t end = std::min(first + kRegionsPerPage, dirty_.regions());
    durable_.add_range(image_, first, end - first);
  }
}

void WriteIntent::flush_end(uint64_t flush) { flushed_ = std::max(flushed_, flush); }

bool WriteIntent::covered(uint64_t region, uint64_t flush) const {
  if (regions_[region].in_flight > 0) return false;
  return regions_[region].ended < flush || BB_MUTANT(kClearWithoutFlush);
}

bool WriteIntent::may_clean_any(RegionRange regions, uint64_t flush) const {
  uint64_t end = regions.first + regions.count;
  for (uint64_t r = dirty_.next(regions.first); r < end; r = dirty_.next(r + 1)) {
    if (covered(r, flush)) return true;
  }
  return false;
}

uint64_t WriteIntent::clean(uint64_t flush, const RegionSet& keep) {
  uint64_t cleared = 0;
  for (uint64_t r = dirty_.next(0); r < dirty_.regions(); r = dirty_.next(r + 1)) {
    if (!covered(r, flush) || keep.test(r)) continue;
    dirty_.clear(r);
    want(r / kRegionsPerPage);
    ++cleared;
  }
  return cleared;
}

}  // namespace bb::raid
