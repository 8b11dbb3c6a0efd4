// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_page.h"

#include <algorithm>

#include "base/crc32c.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBSM";
constexpr uint32_t kVersion = 1;

// Offsets of docs/formats/stripe-map.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtCrc = 8,
  kAtPage = 12,
  kAtGeneration = 16,
  kAtArray = 24,
  kAtLife = 40,
  kAtFirstSeq = 56,
  kAtRows = kStripePageHeaderBytes,
};
static_assert(kAtFirstSeq + 8 == kAtRows);

}  // namespace

void encode_stripe_page(const StripePageHead& head, std::span<const uint32_t> rows, Bytes into) {
  BB_CHECK(into.size() == kStripePageBytes, "a page of the stripe map has {} bytes", into.size());
  BB_CHECK(rows.size() <= kStripesPerPage, "{} stripes on a page", rows.size());
  std::memset(into.data(), 0, into.size());
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  store_le<uint32_t>(at + kAtVersion, kVersion);
  store_le<uint32_t>(at + kAtPage, head.page);
  store_le<uint64_t>(at + kAtGeneration, head.generation);
  std::memcpy(at + kAtArray, head.array.bytes.data(), 16);
  std::memcpy(at + kAtLife, head.life.bytes.data(), 16);
  store_le<uint64_t>(at + kAtFirstSeq, head.first_seq);
  for (size_t i = 0; i < rows.size(); ++i) store_le<uint32_t>(at + kAtRows + 4 * i, rows[i]);
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

uint64_t claimed_generation(ConstBytes from) {
  return load_le<uint64_t>(from.data() + kAtGeneration);
}

Result<StripePageHead> decode_stripe_page(const Uuid& array, uint32_t page, ConstBytes from,
                                          uint64_t row_count, std::span<uint32_t> rows) {
  BB_CHECK(from.size() == kStripePageBytes, "a page of the stripe map has {} bytes", from.size());
  BB_CHECK(rows.size() <= kStripesPerPage, "{} stripes on a page", rows.size());
  const std::byte* at = from.data();
  auto corrupt = [page](std::string why) {
    return error(Code::k_corrupt, "stripe map page {}: {}", page, why);
  };
  if (as_text(from.first(kMagic.size())) != kMagic) return corrupt("no magic");
  uint32_t stored = load_le<uint32_t>(at + kAtCrc);
  uint32_t computed = crc32c_around(from, kAtCrc);
  if (stored != computed) {
    return corrupt(fmt::format("checksum {:08x}, computed {:08x}", stored, computed));
  }
  uint32_t version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion) return corrupt(fmt::format("version {}", version));
  StripePageHead head;
  head.page = load_le<uint32_t>(at + kAtPage);
  head.generation = load_le<uint64_t>(at + kAtGeneration);
  head.array = Uuid::from(from.subspan(kAtArray, 16));
  head.life = Uuid::from(from.subspan(kAtLife, 16));
  head.first_seq = load_le<uint64_t>(at + kAtFirstSeq);
  if (head.page != page) return corrupt(fmt::format("it says it is page {}", head.page));
  if (head.array != array) {
    return corrupt(fmt::format("it belongs to array {}", head.array.to_string()));
  }
  uint32_t last = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    last = std::max(last, load_le<uint32_t>(at + kAtRows + 4 * i));
  }
  if (last >= row_count) return corrupt(fmt::format("row {} of {}", last, row_count));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = load_le<uint32_t>(at + kAtRows + 4 * i);
  return head;
}

}  // namespace bb::raid
