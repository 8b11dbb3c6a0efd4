// SPDX-License-Identifier: Apache-2.0
// The decoder of pages of checksums. Input: one byte of options (bit 0: write a right checksum of
// the page, or nothing behind it is ever reached; bit 1: the second page), then the page; what it
// leaves out is zero.
#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/checksum_page.h"

namespace bb {
namespace {

using namespace raid;
constexpr size_t kCrcAt = 8;

ChecksumPageHead head_of(uint64_t page) {
  static const Uuid array = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  static const Uuid member = *Uuid::parse("0c9d2a41-88b7-4e0a-b6f3-15d7e2c46a90");
  return {array, member, page, 5};
}

}  // namespace

const size_t fuzz::kInputMax = 256;

fuzz::Seeds fuzz::seeds() {
  Seeds all;
  for (uint64_t number : {0u, 1u}) {
    std::array<uint32_t, kChecksumsPerPage> sums{};
    sums[number] = 7;
    std::vector<std::byte> page(1 + kChecksumPageBytes, std::byte(1 + 2 * number));
    encode_checksum_page(head_of(number), sums, Bytes(page).subspan(1));
    page.resize(100);
    all.emplace_back("page-" + std::to_string(number), page);
  }
  return all;
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  std::vector<std::byte> page(kChecksumPageBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), std::min(size - 1, page.size()),
              page.begin());
  if ((data[0] & 1) != 0) {
    store_le<uint32_t>(&page[kCrcAt], 0);
    store_le<uint32_t>(&page[kCrcAt], crc32c(page));
  }
  ChecksumPageHead head = head_of((data[0] >> 1) & 1);
  std::array<uint32_t, kChecksumsPerPage> sums;
  sums.fill(9);
  Result<ChecksumPageHead> found = decode_checksum_page(head, page, sums);
  if (!found.ok()) {
    for (uint32_t sum : sums) BB_CHECK(sum == kNoChecksum, "a refused page left {}", sum);
    return 0;
  }
  std::vector<std::byte> again(kChecksumPageBytes);
  encode_checksum_page(*found, sums, again);
  std::array<uint32_t, kChecksumsPerPage> twice;
  BB_CHECK(decode_checksum_page(head, again, twice).ok(), "it cannot be read again");
  BB_CHECK(twice == sums, "it is another page");
  return 0;
}
