// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"
#include "base/uuid.h"

namespace bb::raid {

// What an array does to know its blocks again when it reads them.
enum class Integrity : uint8_t { kNone = 0, kCrc32c = 1 };
inline const char* integrity_name(Integrity integrity) {
  return integrity == Integrity::kCrc32c ? "crc32c" : "none";
}
// "" is what a level has when nobody asks: nothing is returned. INVALID_ARGUMENT: no such name.
Result<std::optional<Integrity>> integrity_from_name(std::string_view name);

inline constexpr uint64_t kCheckedBlockBytes = 4 * KiB;
inline constexpr uint64_t kChecksumPageBytes = 4 * KiB;
inline constexpr uint64_t kChecksumPageHeaderBytes = 64;
inline constexpr uint64_t kChecksumPageCopies = 2;  // written in turn
inline constexpr uint32_t kChecksumsPerPage =
    (kChecksumPageBytes - kChecksumPageHeaderBytes) / sizeof(uint32_t);

// A block of which nothing is recorded. A checksum that happens to be this one is stored as ~0.
inline constexpr uint32_t kNoChecksum = 0;
inline uint32_t checksum_of_crc(uint32_t crc32c) {
  return crc32c == kNoChecksum ? ~uint32_t{0} : crc32c;
}
uint32_t block_checksum(ConstBytes block);
uint32_t zero_block_checksum();

// One page of checksums of a member's blocks, on the same member (docs/formats/checksums.md).
struct ChecksumPageHead {
  Uuid array;
  Uuid member;
  uint64_t page = 0;
  uint64_t generation = 0;  // rises with every write of this page, and takes the copies in turn
};

// `sums`: kChecksumsPerPage of them; `into` has kChecksumPageBytes.
void encode_checksum_page(const ChecksumPageHead& head, std::span<const uint32_t> sums, Bytes into);

// Fills `sums`. NOT_FOUND: all is zero, so the page was never written since the member came to the
// array. CORRUPT: damaged, or not this page of this member of this array. `sums` then says that
// nothing is recorded.
Result<ChecksumPageHead> decode_checksum_page(const ChecksumPageHead& wanted, ConstBytes from,
                                              std::span<uint32_t> sums);

// Of both copies, next to each other, the newer that is valid. `damaged`: one of them is not valid,
// so it is not certain that the other is the newest there was.
struct FoundChecksums {
  uint64_t generation = 0;
  bool damaged = false;
  bool blank = false;  // the best there is was never written since the member came
  std::array<uint32_t, kChecksumsPerPage> sums;
};
FoundChecksums choose_checksum_page(const ChecksumPageHead& wanted, ConstBytes both);

}  // namespace bb::raid
