// SPDX-License-Identifier: Apache-2.0
// The decoder of bitmap pages. Input: one byte of options (bit 0: write a right checksum, or
// nothing behind it is ever reached; bit 1: the second, shorter page), then the page; what it
// leaves out is zero.
#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/bitmap_page.h"

namespace bb {
namespace {

using namespace raid;
constexpr size_t kCrcAt = 8;
constexpr uint64_t kRegions = kRegionsPerPage + 100;

const Uuid& array() {
  static const Uuid uuid = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  return uuid;
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (uint32_t number : {0u, 1u}) {
    RegionSet dirty(kRegions);
    dirty.set(number * kRegionsPerPage + 3);
    std::vector<std::byte> page(1 + kBitmapPageBytes, std::byte(1 + 2 * number));
    encode_bitmap_page({.array = array(), .page = number, .generation = 1}, dirty,
                       Bytes(page).subspan(1));
    page.resize(100);
    all.emplace_back("page-" + std::to_string(number), page);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::vector<std::byte> block(kBitmapPageBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), std::min(size - 1, block.size()),
              block.begin());
  if ((data[0] & 1) != 0) {
    store_le<uint32_t>(&block[kCrcAt], 0);
    store_le<uint32_t>(&block[kCrcAt], crc32c(block));
  }
  RegionSet dirty(kRegions);
  uint32_t number = (data[0] >> 1) & 1;
  Result<BitmapPageHead> head = decode_bitmap_page(array(), number, block, dirty);
  BB_CHECK(head.ok() || dirty.empty(), "a refused page left bits");
  if (!head.ok()) return 0;
  std::vector<std::byte> again(kBitmapPageBytes);
  encode_bitmap_page(*head, dirty, again);
  RegionSet twice(dirty.regions());
  BB_CHECK(decode_bitmap_page(array(), number, again, twice).ok(), "it cannot be read again");
  BB_CHECK(twice.count() == dirty.count(), "{} bits became {}", dirty.count(), twice.count());
  return 0;
}
