// SPDX-License-Identifier: Apache-2.0
#include "raid/checksums.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/units.h"

namespace bb::raid {

Checksums::Checksums(uint64_t blocks)
    : blocks_(blocks), table_(div_up(blocks, uint64_t{kChecksumsPerPage})) {}

uint64_t Checksums::missing(uint64_t block, uint64_t count) const {
  BB_CHECK(count > 0 && block + count <= blocks_, "blocks {} + {} of {}", block, count, blocks_);
  uint64_t last = (block + count - 1) / kChecksumsPerPage;
  for (uint64_t page = block / kChecksumsPerPage; page <= last; ++page) {
    if (!has(page)) return page;
  }
  return pages();
}

void Checksums::put(uint64_t page, const FoundChecksums& found) {
  BB_CHECK(!has(page), "page {} of checksums is here already", page);
  table_[page] = std::make_unique<Page>();
  table_[page]->sums = found.sums;
  table_[page]->generation = found.generation;
  resident_.push_back(page);
  table_[page]->dirty = found.damaged;
  if (found.damaged) dirty_.push_back(page);
}

uint32_t Checksums::at(uint64_t block) {
  Page& page = *table_[block / kChecksumsPerPage];
  page.used = true;
  return page.sums[block % kChecksumsPerPage];
}

void Checksums::set(uint64_t block, uint32_t sum) {
  uint64_t number = block / kChecksumsPerPage;
  Page& page = *table_[number];
  page.used = true;
  page.sums[block % kChecksumsPerPage] = sum;
  if (page.dirty) return;
  page.dirty = true;
  dirty_.push_back(number);
}

std::vector<uint64_t> Checksums::take_dirty(const std::function<bool(uint64_t page)>& wanted) {
  std::vector<uint64_t> taken;
  std::vector<uint64_t> kept;
  for (uint64_t page : dirty_) (wanted(page) ? taken : kept).push_back(page);
  dirty_ = std::move(kept);
  for (uint64_t page : taken) {
    BB_CHECK(!table_[page]->writing, "page {} of checksums is being written", page);
    table_[page]->dirty = false;
    table_[page]->writing = true;
  }
  return taken;
}

void Checksums::written(uint64_t number, bool ok, uint64_t epoch) {
  Page& page = *table_[number];
  page.writing = false;
  if (ok) {
    ++page.generation;
    page.epoch = epoch;
  }
  if (ok || page.dirty) return;
  page.dirty = true;
  dirty_.push_back(number);
}

bool Checksums::evict() {
  for (size_t step = 0; step < resident_.size(); ++step) {
    hand_ = hand_ + 1 < resident_.size() ? hand_ + 1 : 0;
    Page& page = *table_[resident_[hand_]];
    if (page.dirty || page.writing || page.pins > 0) continue;
    if (page.used) {
      page.used = false;
      continue;
    }
    table_[resident_[hand_]].reset();
    resident_[hand_] = resident_.back();
    resident_.pop_back();
    return true;
  }
  return false;
}

PinnedSums::~PinnedSums() {
  for (auto& [sums, page] : pages_) sums->unpin(page);
}

void PinnedSums::pin(std::shared_ptr<Checksums> sums, uint64_t block, uint64_t count) {
  uint64_t last = (block + count - 1) / kChecksumsPerPage;
  for (uint64_t page = block / kChecksumsPerPage; page <= last; ++page) {
    sums->pin(page);
    pages_.emplace_back(sums, page);
  }
}

void BlockSums::start(uint64_t count) {
  count_ = count;
  if (count > kFew) more_.resize(count);
}

void BlockSums::fill(uint64_t count, uint32_t sum) {
  start(count);
  std::ranges::fill(room(), sum);
}

void BlockSums::compute(std::span<const iovec> memory) {
  uint64_t total = 0;
  for (const iovec& part : memory) total += part.iov_len;
  BB_CHECK(total % kCheckedBlockBytes == 0, "{} bytes are not whole blocks", total);
  start(total / kCheckedBlockBytes);
  std::span<uint32_t> into = room();
  size_t block = 0;
  uint64_t within = 0;  // of the block, what lay in earlier parts
  uint32_t sum = 0;
  for (const iovec& part : memory) {
    ConstBytes left(static_cast<const std::byte*>(part.iov_base), part.iov_len);
    while (!left.empty()) {
      uint64_t length = std::min<uint64_t>(left.size(), kCheckedBlockBytes - within);
      sum = crc32c(left.first(length), sum);
      left = left.subspan(length);
      within += length;
      if (within < kCheckedBlockBytes) continue;
      into[block++] = checksum_of_crc(sum);
      within = 0;
      sum = 0;
    }
  }
}

}  // namespace bb::raid
