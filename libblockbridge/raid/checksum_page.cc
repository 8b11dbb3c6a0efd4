// SPDX-License-Identifier: Apache-2.0
#include "raid/checksum_page.h"

#include <algorithm>
#include <array>

#include "base/crc32c.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBCK";
constexpr uint32_t kVersion = 1;

// Offsets of docs/formats/checksums.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtCrc = 8,
  kAtPage = 16,
  kAtArray = 24,
  kAtMember = 40,
  kAtGeneration = 56,
  kAtSums = kChecksumPageHeaderBytes,
};

void check_sizes(std::span<const uint32_t> sums, size_t page_bytes) {
  BB_CHECK(sums.size() == kChecksumsPerPage, "{} checksums on a page", sums.size());
  BB_CHECK(page_bytes == kChecksumPageBytes, "a page of checksums of {} bytes", page_bytes);
}

}  // namespace

Result<std::optional<Integrity>> integrity_from_name(std::string_view name) {
  if (name.empty()) return std::optional<Integrity>();
  for (Integrity integrity : {Integrity::kNone, Integrity::kCrc32c}) {
    if (name == integrity_name(integrity)) return std::optional(integrity);
  }
  return error(Code::k_invalid_argument, "integrity \"{}\": there are crc32c and none", name);
}

uint32_t block_checksum(ConstBytes block) { return checksum_of_crc(crc32c(block)); }

uint32_t zero_block_checksum() {
  static const uint32_t sum = block_checksum(std::array<std::byte, kCheckedBlockBytes>{});
  return sum;
}

void encode_checksum_page(const ChecksumPageHead& head, std::span<const uint32_t> sums,
                          Bytes into) {
  check_sizes(sums, into.size());
  std::memset(into.data(), 0, kChecksumPageHeaderBytes);
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  store_le<uint32_t>(at + kAtVersion, kVersion);
  store_le<uint64_t>(at + kAtPage, head.page);
  std::memcpy(at + kAtArray, head.array.bytes.data(), 16);
  std::memcpy(at + kAtMember, head.member.bytes.data(), 16);
  store_le<uint64_t>(at + kAtGeneration, head.generation);
  for (size_t i = 0; i < sums.size(); ++i) store_le<uint32_t>(at + kAtSums + 4 * i, sums[i]);
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

Result<ChecksumPageHead> decode_checksum_page(const ChecksumPageHead& wanted, ConstBytes from,
                                              std::span<uint32_t> sums) {
  ChecksumPageHead head = wanted;
  check_sizes(sums, from.size());
  const std::byte* at = from.data();
  std::ranges::fill(sums, kNoChecksum);
  if (all_zero(from)) {
    return error(Code::k_not_found, "page {} of checksums was never written", head.page);
  }
  auto corrupt = [&head](std::string why) {
    return error(Code::k_corrupt, "page {} of checksums: {}", head.page, why);
  };
  if (as_text(from.first(kMagic.size())) != kMagic) return corrupt("no magic");
  uint32_t stored = load_le<uint32_t>(at + kAtCrc);
  uint32_t computed = crc32c_around(from, kAtCrc);
  if (stored != computed) {
    return corrupt(fmt::format("checksum {:08x}, computed {:08x}", stored, computed));
  }
  uint32_t version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion) return corrupt(fmt::format("version {}", version));
  uint64_t page = load_le<uint64_t>(at + kAtPage);
  if (page != head.page) return corrupt(fmt::format("it says it is page {}", page));
  if (Uuid::from(from.subspan(kAtArray, 16)) != head.array ||
      Uuid::from(from.subspan(kAtMember, 16)) != head.member) {
    return corrupt("it belongs to another array or member");
  }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = load_le<uint32_t>(at + kAtSums + 4 * i);
  head.generation = load_le<uint64_t>(at + kAtGeneration);
  return head;
}

FoundChecksums choose_checksum_page(const ChecksumPageHead& wanted, ConstBytes both) {
  FoundChecksums best;
  best.sums.fill(kNoChecksum);
  for (uint64_t copy = 0; copy < kChecksumPageCopies; ++copy) {
    FoundChecksums here;
    auto head = decode_checksum_page(
        wanted, both.subspan(copy * kChecksumPageBytes, kChecksumPageBytes), here.sums);
    bool in_turn = !head.ok() || head->generation % kChecksumPageCopies == copy;
    if (head.code() == Code::k_corrupt || !in_turn) best.damaged = true;
    best.blank = best.blank || (head.code() == Code::k_not_found && best.generation == 0);
    if (!head.ok() || !in_turn || head->generation <= best.generation) continue;
    best.blank = false;
    best.generation = head->generation;
    best.sums = here.sums;
  }
  return best;
}

}  // namespace bb::raid
