// SPDX-License-Identifier: Apache-2.0
// pure
#include "sim/tiny_image.h"

#include <algorithm>

namespace bb::sim {
namespace {

// Zeroes count as nothing: a page that is not there holds them.
uint64_t sector_hash(uint64_t offset_bytes, const std::byte* sector) {
  ConstBytes bytes(sector, TinyImage::kSectorBytes);
  return all_zero(bytes) ? 0 : tiny_hash(offset_bytes, bytes);
}

}  // namespace

uint64_t tiny_mix(uint64_t seed, uint64_t value) {
  uint64_t x = (seed ^ value) * 0x9e3779b97f4a7c15ull;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ull;
  return x ^ (x >> 29);
}

uint64_t tiny_hash(uint64_t seed, ConstBytes bytes) {
  uint64_t hash = tiny_mix(0x7469'6e79, seed);
  for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    hash = tiny_mix(hash, load_le<uint64_t>(bytes.data() + at));
  }
  return hash;
}

void TinyImage::read(uint64_t offset_bytes, Bytes into) const {
  while (!into.empty()) {
    uint64_t within = offset_bytes % kPageBytes;
    uint64_t length = std::min<uint64_t>(into.size(), kPageBytes - within);
    const Page* page = pages_[offset_bytes / kPageBytes].get();
    if (page == nullptr) {
      std::memset(into.data(), 0, length);
    } else {
      std::memcpy(into.data(), page->bytes + within, length);
    }
    offset_bytes += length;
    into = into.subspan(length);
  }
}

void TinyImage::put_sector(uint64_t offset_bytes, const std::byte* from) {
  std::shared_ptr<Page>& page = pages_[offset_bytes / kPageBytes];
  if (page == nullptr) {
    if (all_zero({from, kSectorBytes})) return;
    page = std::make_shared<Page>();
    std::memset(page->bytes, 0, kPageBytes);
  }
  std::byte* sector = page->bytes + offset_bytes % kPageBytes;
  if (std::memcmp(sector, from, kSectorBytes) == 0) return;
  if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
    sector = page->bytes + offset_bytes % kPageBytes;
  }
  hash_ -= sector_hash(offset_bytes, sector);
  std::memcpy(sector, from, kSectorBytes);
  hash_ += sector_hash(offset_bytes, sector);
}

void TinyImage::write(uint64_t offset_bytes, ConstBytes from) {
  for (uint64_t at = 0; at < from.size(); at += kSectorBytes) {
    put_sector(offset_bytes + at, from.data() + at);
  }
}

void TinyImage::write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) {
  constexpr std::byte kZeroes[kSectorBytes]{};
  for (uint64_t at = 0; at < length_bytes; at += kSectorBytes) {
    if (pages_[(offset_bytes + at) / kPageBytes] != nullptr) put_sector(offset_bytes + at, kZeroes);
  }
}

bool TinyImage::same(const TinyImage& other, uint64_t offset_bytes, uint64_t length_bytes) const {
  std::byte mine[kPageBytes];
  std::byte others[kPageBytes];
  for (uint64_t at = offset_bytes; at < offset_bytes + length_bytes; at += kPageBytes) {
    if (pages_[at / kPageBytes] == other.pages_[at / kPageBytes]) continue;
    read(at, mine);
    other.read(at, others);
    if (std::memcmp(mine, others, kPageBytes) != 0) return false;
  }
  return true;
}

}  // namespace bb::sim
