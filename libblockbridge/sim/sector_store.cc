// SPDX-License-Identifier: Apache-2.0
#include "sim/sector_store.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSector = SectorStore::kSectorBytes;
constexpr uint64_t kPage = SectorStore::kPageBytes;

uint8_t bit_of(uint64_t offset_bytes) {
  return static_cast<uint8_t>(1u << (offset_bytes % kPage / kSector));
}

}  // namespace

SectorStore::SectorStore(uint64_t size_bytes, Pool* pool)
    : size_bytes_(size_bytes), pool_(pool), pages_(size_bytes / kPage) {
  BB_CHECK(size_bytes % kPage == 0, "a store of {} bytes is not a multiple of a page", size_bytes);
}

SectorStore::~SectorStore() {
  for (uint64_t index : used_pages_) pool_->free.push_back(std::move(pages_[index]));
}

SectorStore::Page& SectorStore::obtain(uint64_t offset_bytes) {
  std::unique_ptr<Page>& slot = pages_[offset_bytes / kPage];
  if (slot == nullptr) {
    if (pool_->free.empty()) {
      slot = std::make_unique<Page>();
    } else {
      slot = std::move(pool_->free.back());
      pool_->free.pop_back();
    }
    std::memset(slot->current, 0, kPage);
    slot->unflushed = 0;
    slot->unreadable = 0;
    slot->wrong = 0;
    slot->wrong_durable = 0;
    slot->listed = false;
    used_pages_.push_back(offset_bytes / kPage);
  }
  return *slot;
}

bool SectorStore::read(uint64_t offset_bytes, Bytes into) const {
  bool readable = true;
  while (!into.empty()) {
    uint64_t within = offset_bytes % kPage;
    size_t length = std::min<size_t>(kPage - within, into.size());
    const Page* page = find(offset_bytes);
    if (page == nullptr) {
      std::memset(into.data(), 0, length);
    } else {
      std::memcpy(into.data(), page->current + within, length);
      if (page->unreadable != 0) {
        for (uint64_t at = 0; at < length; at += kSector)
          readable = readable && (page->unreadable & bit_of(offset_bytes + at)) == 0;
      }
    }
    offset_bytes += length;
    into = into.subspan(length);
  }
  return readable;
}

void SectorStore::put_sector(uint64_t offset_bytes, const std::byte* from, bool durable) {
  Page& page = obtain(offset_bytes);
  uint64_t within = offset_bytes % kPage;
  uint8_t bit = bit_of(offset_bytes);
  auto others = static_cast<uint8_t>(~bit);
  if (durable) {
    page.unflushed &= others;
    page.wrong_durable &= others;
  } else if ((page.unflushed & bit) == 0) {
    std::memcpy(page.durable + within, page.current + within, kSector);
    page.unflushed |= bit;
    if (!page.listed) {
      page.listed = true;
      unflushed_pages_.push_back(offset_bytes / kPage);
    }
  }
  page.wrong &= others;
  if ((page.unreadable & bit) != 0) {
    page.unreadable &= others;
    --unreadable_;
  }
  if (from == nullptr) {
    std::memset(page.current + within, 0, kSector);
  } else {
    std::memcpy(page.current + within, from, kSector);
  }
}

void SectorStore::write(uint64_t offset_bytes, ConstBytes from, bool durable) {
  for (size_t at = 0; at < from.size(); at += kSector)
    put_sector(offset_bytes + at, from.data() + at, durable);
}

void SectorStore::write_zeroes(uint64_t offset_bytes, uint64_t length_bytes, bool durable) {
  for (uint64_t at = 0; at < length_bytes; at += kSector) {
    if (find(offset_bytes + at) == nullptr) continue;  // never written: zeroes already
    put_sector(offset_bytes + at, nullptr, durable);
  }
}

void SectorStore::flush() {
  for (uint64_t index : unflushed_pages_) {
    pages_[index]->wrong_durable = pages_[index]->wrong;
    pages_[index]->unflushed = 0;
    pages_[index]->listed = false;
  }
  unflushed_pages_.clear();
}

uint64_t SectorStore::lose_unflushed(Prng& prng) {
  uint64_t lost = 0;
  for (uint64_t index : unflushed_pages_) {
    Page& page = *pages_[index];
    for (uint64_t i = 0; i < kPage / kSector; ++i) {
      if ((page.unflushed & (1u << i)) == 0 || prng.below(2) == 0) continue;
      std::memcpy(page.current + i * kSector, page.durable + i * kSector, kSector);
      auto bit = static_cast<uint8_t>(1u << i);
      page.wrong = static_cast<uint8_t>((page.wrong & ~bit) | (page.wrong_durable & bit));
      ++lost;
    }
    page.wrong_durable = page.wrong;
    page.unflushed = 0;
    page.listed = false;
  }
  unflushed_pages_.clear();
  return lost;
}

void SectorStore::flip_bit(uint64_t offset_bytes, uint32_t bit) {
  Page& page = obtain(offset_bytes);
  auto mask = static_cast<std::byte>(1u << (bit % 8));
  page.current[offset_bytes % kPage] ^= mask;
  page.durable[offset_bytes % kPage] ^= mask;
}

void SectorStore::make_unreadable(uint64_t offset_bytes) {
  Page& page = obtain(offset_bytes);
  if ((page.unreadable & bit_of(offset_bytes)) != 0) return;
  page.unreadable |= bit_of(offset_bytes);
  ++unreadable_;
}

void SectorStore::mark_wrong(uint64_t offset_bytes, ConstBytes right) {
  Page& page = obtain(offset_bytes);
  std::memcpy(right_[offset_bytes / kSector].data(), right.data(), kSector);
  page.wrong |= bit_of(offset_bytes);
  page.wrong_durable |= bit_of(offset_bytes);
}

void SectorStore::read_right(uint64_t offset_bytes, Bytes into) const {
  (void)read(offset_bytes, into);
  for (size_t at = 0; at < into.size(); at += kSector) {
    const Page* page = find(offset_bytes + at);
    if (page == nullptr || (page->wrong & bit_of(offset_bytes + at)) == 0) continue;
    const auto& right = right_.at((offset_bytes + at) / kSector);
    std::memcpy(into.data() + at, right.data(), kSector);
  }
}

void SectorStore::mend(uint64_t offset_bytes) {
  Page& page = obtain(offset_bytes);
  uint8_t bit = bit_of(offset_bytes);
  uint64_t within = offset_bytes % kPage / kSector * kSector;
  const auto& right = right_.at(offset_bytes / kSector);
  if ((page.wrong & bit) != 0) std::memcpy(page.current + within, right.data(), kSector);
  if ((page.wrong_durable & bit) != 0) std::memcpy(page.durable + within, right.data(), kSector);
  page.wrong = static_cast<uint8_t>(page.wrong & ~bit);
  page.wrong_durable = static_cast<uint8_t>(page.wrong_durable & ~bit);
}

std::vector<uint64_t> SectorStore::wrong_places() const {
  std::vector<uint64_t> places;
  for (const auto& [sector, right] : right_) {
    if (is_wrong(sector * kSector)) places.push_back(sector * kSector);
  }
  return places;
}

bool SectorStore::is_wrong(uint64_t offset_bytes) const {
  const Page* page = find(offset_bytes);
  return page != nullptr && ((page->wrong | page->wrong_durable) & bit_of(offset_bytes)) != 0;
}

uint64_t SectorStore::wrong_sectors() const {
  uint64_t count = 0;
  for (uint64_t index : used_pages_) {
    auto wrong = static_cast<uint8_t>(pages_[index]->wrong | pages_[index]->wrong_durable);
    count += static_cast<uint64_t>(std::popcount(wrong));
  }
  return count;
}

uint64_t SectorStore::unflushed_sectors() const {
  uint64_t count = 0;
  for (uint64_t index : unflushed_pages_)
    count += static_cast<uint64_t>(std::popcount(pages_[index]->unflushed));
  return count;
}

}  // namespace bb::sim
