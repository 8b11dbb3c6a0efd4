// SPDX-License-Identifier: Apache-2.0
// The decoder of superblocks. Input: one byte of options (bit 0: write a right checksum, or nothing
// behind it is ever reached), then the block; what it leaves out is zero.
#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/superblock.h"

namespace bb {
namespace {

using namespace raid;
constexpr size_t kCrcAt = 12;

}  // namespace

const size_t fuzz::kInputMax = 512;

fuzz::Seeds fuzz::seeds() {
  Superblock block;
  block.array = block.member = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  block.name = "db";
  block.shape = *parse_shape("10.4", 4096);
  block.member_bytes = 32 * MiB;
  block.size_bytes = 64 * MiB;
  block.region_size_bytes = 64 * KiB;
  block.bitmap_length_bytes = kBitmapPageBytes;
  block.members = {{.uuid = block.array, .state = MemberState::kInSync, .generation = 1}};
  std::vector<std::byte> bytes(1 + kSuperblockBytes, std::byte{1});
  encode_superblock(block, Bytes(bytes).subspan(1));
  bytes.resize(400);
  return {{"superblock", bytes}};
}

}  // namespace bb

// What is accepted is within its limits, and says the same when written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::vector<std::byte> block(kSuperblockBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), std::min(size - 1, block.size()),
              block.begin());
  if ((data[0] & 1) != 0) {
    store_le<uint32_t>(&block[kCrcAt], 0);
    store_le<uint32_t>(&block[kCrcAt], crc32c(block));
  }
  std::optional<ConstBytes> copy = ConstBytes(block);
  Result<Superblock> decoded = choose_superblock(copy, std::nullopt);
  if (!decoded.ok()) return 0;
  BB_CHECK(decoded->members.size() <= kMembersListedMax, "too many members");
  BB_CHECK(decoded->geometry().pages() * kBitmapPageBytes == decoded->bitmap_length_bytes,
           "a bitmap of another size");
  std::vector<std::byte> again(kSuperblockBytes);
  encode_superblock(*decoded, again);
  Result<Superblock> twice = decode_superblock(again);
  BB_CHECK(twice.ok() && *twice == *decoded, "it does not survive being written");
  return 0;
}
