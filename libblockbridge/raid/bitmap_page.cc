// SPDX-License-Identifier: Apache-2.0
#include "raid/bitmap_page.h"

#include <algorithm>
#include <bit>

#include "base/crc32c.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBWI";
constexpr uint32_t kVersion = 1;

// Offsets of docs/formats/bitmap.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtCrc = 8,
  kAtPage = 12,
  kAtGeneration = 16,
  kAtArray = 24,
  kAtBits = kBitmapPageHeaderBytes,
};

struct PageRegions {
  uint64_t first, end;
};
PageRegions regions_of(uint32_t page, const RegionSet& dirty) {
  uint64_t first = page * kRegionsPerPage;
  BB_CHECK(first < dirty.regions(), "page {} of {} regions", page, dirty.regions());
  return {first, std::min(first + kRegionsPerPage, dirty.regions())};
}

}  // namespace

void encode_bitmap_page(const BitmapPageHead& head, const RegionSet& dirty, Bytes into) {
  BB_CHECK(into.size() == kBitmapPageBytes, "a bitmap page has {} bytes", into.size());
  PageRegions regions = regions_of(head.page, dirty);
  std::memset(into.data(), 0, into.size());
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  store_le<uint32_t>(at + kAtVersion, kVersion);
  store_le<uint32_t>(at + kAtPage, head.page);
  store_le<uint64_t>(at + kAtGeneration, head.generation);
  std::memcpy(at + kAtArray, head.array.bytes.data(), 16);
  static_assert(kRegionsPerPage % 64 == 0);
  for (uint64_t r = regions.first; r < regions.end; r += 64) {
    store_le<uint64_t>(at + kAtBits + (r - regions.first) / 8, dirty.bits_from(r));
  }
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

Result<BitmapPageHead> decode_bitmap_page(const Uuid& array, uint32_t page, ConstBytes from,
                                          RegionSet& dirty) {
  BB_CHECK(from.size() == kBitmapPageBytes, "a bitmap page has {} bytes", from.size());
  PageRegions regions = regions_of(page, dirty);
  const std::byte* at = from.data();
  auto corrupt = [page](std::string why) {
    return error(Code::k_corrupt, "bitmap page {}: {}", page, why);
  };
  if (as_text(from.first(kMagic.size())) != kMagic) return corrupt("no magic");
  uint32_t stored = load_le<uint32_t>(at + kAtCrc);
  uint32_t computed = crc32c_around(from, kAtCrc);
  if (stored != computed) {
    return corrupt(fmt::format("checksum {:08x}, computed {:08x}", stored, computed));
  }
  uint32_t version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion) return corrupt(fmt::format("version {}", version));
  BitmapPageHead head;
  head.page = load_le<uint32_t>(at + kAtPage);
  head.generation = load_le<uint64_t>(at + kAtGeneration);
  head.array = Uuid::from(from.subspan(kAtArray, 16));
  if (head.page != page) return corrupt(fmt::format("it says it is page {}", head.page));
  if (head.array != array) {
    return corrupt(fmt::format("it belongs to array {}", head.array.to_string()));
  }
  for (uint64_t first = regions.first; first < regions.end; first += 8) {  // most have no bit
    auto bits = static_cast<unsigned>(at[kAtBits + (first - regions.first) / 8]);
    for (; bits != 0; bits &= bits - 1) {
      uint64_t region = first + static_cast<unsigned>(std::countr_zero(bits));
      if (region < regions.end) dirty.set(region);
    }
  }
  return head;
}

void mark_page_dirty(uint32_t page, RegionSet& dirty) {
  PageRegions regions = regions_of(page, dirty);
  dirty.set_range(regions.first, regions.end - regions.first);
}

}  // namespace bb::raid
