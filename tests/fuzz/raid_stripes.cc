// SPDX-License-Identifier: Apache-2.0
// What a member of an array with parity may hold: pages of the stripe map, and a journal's ring
// with what is done again of it. Input: one byte of options (bit 0: write right checksums, or
// nothing behind them is ever reached; bit 1: a ring), then the page, or ring; what it leaves out
// is zero.
#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "fuzz.h"
#include "raid/journal_replay.h"
#include "raid/stripe_map.h"

namespace bb {
namespace {

using namespace raid;
constexpr size_t kCrcAt = 8;
constexpr uint64_t kStripes = 40;
constexpr uint64_t kRows = 50;
constexpr size_t kRingBytes = 4 * kJournalHeadBytes;

const Uuid& array() {
  static const Uuid uuid = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  return uuid;
}
const Uuid& life() {
  static const Uuid uuid = *Uuid::parse("f2a8c6e0-1b34-4c5d-8e9f-a0b1c2d3e4f5");
  return uuid;
}
JournalPlace place(uint64_t offset_bytes) {
  static const Shape shape = *parse_shape("6.5", 4096);
  return {.array = array(),
          .life = life(),
          .slot = 1,
          .ring_bytes = kRingBytes,
          .offset_bytes = offset_bytes,
          .shape = shape,
          .rows = kRows};
}

void repair(Bytes block) {
  store_le<uint32_t>(&block[kCrcAt], 0);
  store_le<uint32_t>(&block[kCrcAt], crc32c(block));
}

void check_page(ConstBytes page) {
  std::vector<uint32_t> rows(kStripes, 7);
  Result<StripePageHead> head = decode_stripe_page(array(), 0, page, kRows, rows);
  if (!head.ok()) {
    BB_CHECK(std::ranges::count(rows, 7u) == kStripes, "a refused page left rows");
    return;
  }
  std::vector<std::byte> again(kStripePageBytes);
  encode_stripe_page(*head, rows, again);
  std::vector<uint32_t> twice(kStripes);
  BB_CHECK(decode_stripe_page(array(), 0, again, kRows, twice).ok() && twice == rows,
           "a page changed by being written");
  StripeMap map(array(), kStripes, kRows);
  map.adopt(*head, rows);
  if (!map.settle().ok()) return;
  BB_CHECK(map.free_rows() == kRows - kStripes, "{} rows are free", map.free_rows());
}

void check_ring(ConstBytes ring) {
  std::vector<std::vector<FoundEntry>> found(5);
  found[1] = find_entries(place(0), ring);
  for (const ReplayStep& step : plan_replay(found, 0b00010, 0)) {
    BB_CHECK(step.slot == 1 && step.row < kRows, "a step on member {}, row {}", step.slot,
             step.row);
    BB_CHECK(step.within_bytes + uint64_t{step.length_bytes} <= 4096, "a step beyond its chunk");
    BB_CHECK(step.length_bytes <= kRingBytes, "a step of {} bytes", step.length_bytes);
  }
}

}  // namespace

const size_t fuzz::kInputMax = 9000;

fuzz::Seeds fuzz::seeds() {
  std::vector<std::byte> page(1 + kStripePageBytes, std::byte{1});
  std::vector<uint32_t> rows(kStripes);
  for (uint32_t i = 0; i < kStripes; ++i) rows[i] = i + 3;
  encode_stripe_page({.array = array(), .page = 0, .generation = 3, .life = life(), .first_seq = 2},
                     rows, Bytes(page).subspan(1));
  page.resize(1 + 64 + 4 * kStripes);
  std::vector<std::byte> ring(1 + 2 * kJournalHeadBytes, std::byte{3});
  JournalHead head{.array = array(), .life = life(), .seq = 5, .first_seq = 4, .slot = 1};
  head.parts.push_back({.write = 0,
                        .row = 9,
                        .touched_mask = 0b00110,
                        .within_bytes = 512,
                        .length_bytes = 1024,
                        .checksum = crc32c(ConstBytes(ring).subspan(1 + kJournalHeadBytes, 1024))});
  encode_journal_head(head, Bytes(ring).subspan(1, kJournalHeadBytes));
  ring.resize(1 + kJournalHeadBytes + 1024);
  return {{"page", page}, {"ring", ring}};
}

}  // namespace bb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bb;
  if (size == 0) return 0;
  bool is_ring = (data[0] & 2) != 0;
  std::vector<std::byte> bytes(is_ring ? kRingBytes : kStripePageBytes);
  std::copy_n(reinterpret_cast<const std::byte*>(data + 1), std::min(size - 1, bytes.size()),
              bytes.begin());
  for (size_t at = 0; (data[0] & 1) != 0 && at < bytes.size(); at += kJournalHeadBytes) {
    bool head = !is_ring || as_text(ConstBytes(bytes).subspan(at, 4)) == "BBJH";
    if (head) repair(Bytes(bytes).subspan(at, kJournalHeadBytes));
  }
  is_ring ? check_ring(bytes) : check_page(bytes);
  return 0;
}
