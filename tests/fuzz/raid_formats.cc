// SPDX-License-Identifier: Apache-2.0
// The decoders of superblock and bitmap page. Input: one byte of options (bit 0: bitmap page, bit
// 1: write a right checksum, or nothing behind it is ever reached), then the block.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/bitmap_page.h"
#include "raid/superblock.h"

namespace bb {
namespace {

using namespace raid;
using Block = std::vector<std::byte>;

void repair(Block& block, size_t crc_at) {
  std::memset(block.data() + crc_at, 0, 4);
  store_le<uint32_t>(block.data() + crc_at, crc32c(block));
}

// What is accepted is within its limits, and says the same when written and read again.
void try_superblock(const Block& block) {
  Result<Superblock> decoded = decode_superblock(block);
  if (!decoded.ok()) return;
  BB_CHECK(decoded->members.size() <= kMembersListedMax, "too many members");
  BB_CHECK(decoded->geometry().pages() * kBitmapPageBytes == decoded->bitmap_length_bytes,
           "a bitmap of another size");
  Block again(kSuperblockBytes);
  encode_superblock(*decoded, again);
  Result<Superblock> twice = decode_superblock(again);
  BB_CHECK(twice.ok() && *twice == *decoded, "it does not survive being written");
  std::optional<ConstBytes> copy = ConstBytes(block);
  BB_CHECK(choose_superblock(copy, std::nullopt).ok(), "a valid copy was not chosen");
}

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");

void try_bitmap_page(const Block& block) {
  RegionSet dirty(kRegionsPerPage + 100);
  for (uint32_t page = 0; page < 2; ++page) {
    dirty.clear_all();
    Result<BitmapPageHead> head = decode_bitmap_page(kArray, page, block, dirty);
    BB_CHECK(head.ok() || dirty.empty(), "a refused page left bits");
    if (!head.ok()) continue;
    Block again(kBitmapPageBytes);
    encode_bitmap_page(*head, dirty, again);
    RegionSet twice(dirty.regions());
    BB_CHECK(decode_bitmap_page(kArray, page, again, twice).ok(), "it cannot be read again");
    BB_CHECK(twice.count() == dirty.count(), "{} bits became {}", dirty.count(), twice.count());
  }
}

}  // namespace

fuzz::Seeds fuzz::seeds() {
  Superblock block;
  block.array = block.member = kArray;
  block.name = "db";
  block.size_bytes = 64 * MiB;
  block.region_size_bytes = 64 * KiB;
  block.bitmap_length_bytes = kBitmapPageBytes;
  block.members = {{.uuid = kArray, .state = MemberState::kInSync, .generation = 1}};
  Block superblock(1 + kSuperblockBytes, std::byte{2});
  encode_superblock(block, Bytes(superblock).subspan(1));
  RegionSet dirty(kRegionsPerPage + 100);
  dirty.set(kRegionsPerPage + 3);
  Block page(1 + kBitmapPageBytes, std::byte{3});
  encode_bitmap_page({.array = kArray, .page = 1, .generation = 1}, dirty, Bytes(page).subspan(1));
  return {{"superblock", superblock}, {"bitmap-page", page}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  bb::Block block(4096);
  std::memcpy(block.data(), data + 1, std::min<size_t>(size - 1, block.size()));
  bool page = (data[0] & 1) != 0;
  if ((data[0] & 2) != 0) bb::repair(block, page ? 8 : 12);
  if (page) {
    bb::try_bitmap_page(block);
  } else {
    bb::try_superblock(block);
  }
  return 0;
}
