// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "base/check.h"

namespace bb::raid {
namespace {

uint64_t bit(uint32_t i) { return uint64_t{1} << i; }
uint64_t first_bits(uint32_t count) { return count == 64 ? ~uint64_t{0} : bit(count) - 1; }
uint32_t count_of(uint64_t mask) { return static_cast<uint32_t>(std::popcount(mask)); }

uint64_t lowest_bits(uint64_t mask, uint32_t count) {
  uint64_t kept = 0;
  for (; count > 0; --count) {
    uint64_t lowest = mask & (~mask + 1);
    kept |= lowest;
    mask &= ~lowest;
  }
  return kept;
}

using Pointers = std::array<std::byte*, kMembersMax>;

// Data that are away, worked out from what was read.
void bring_back(const ParityCode& code, const Band& band, uint64_t lost_mask,
                std::span<std::byte* const> old, Pointers& data, Bytes scratch) {
  Result<Reconstruction> plan = Reconstruction::plan(code, lost_mask);
  BB_CHECK(plan.ok(), "a band without blocks {:x} of {}+{}", lost_mask, code.data(), code.parity());
  std::array<const std::byte*, kMembersMax> sources;
  for (size_t i = 0; i < plan->sources().size(); ++i) sources[i] = old[plan->sources()[i]];
  std::array<std::byte*, kParityMax> lost;
  for (size_t i = 0; i < plan->lost().size(); ++i) {
    lost[i] = scratch.data() + i * band.length_bytes;
    if (plan->lost()[i] < code.data()) data[plan->lost()[i]] = lost[i];
  }
  plan->run(sources.data(), lost.data(), band.length_bytes);
}

}  // namespace

uint32_t block_slot(const Shape& shape, uint64_t row, uint32_t block) {
  uint32_t data = shape.data_chunks();
  if (block >= data) return shape.level->parity_slot(shape, row, block - data);
  return shape.level->place(shape, row * data + block, 0).slot;
}

uint64_t blocks_of_slots(const Shape& shape, uint64_t row, uint64_t slots_mask) {
  uint64_t mask = 0;
  for (uint32_t block = 0; block < shape.members; ++block) {
    if ((slots_mask & bit(block_slot(shape, row, block))) != 0) mask |= bit(block);
  }
  return mask;
}

uint64_t slots_of_blocks(const Shape& shape, uint64_t row, uint64_t blocks_mask) {
  uint64_t mask = 0;
  for (uint32_t block = 0; block < shape.members; ++block) {
    if ((blocks_mask & bit(block)) != 0) mask |= bit(block_slot(shape, row, block));
  }
  return mask;
}

std::vector<Band> bands_of(const Shape& shape, uint64_t offset_bytes, uint64_t length_bytes) {
  auto chunk = static_cast<uint32_t>(shape.chunk_bytes);
  uint64_t end = offset_bytes + length_bytes;
  BB_CHECK(length_bytes > 0 && end <= shape.chunk_bytes * shape.data_chunks(),
           "{} bytes at {} of a stripe", length_bytes, offset_bytes);
  auto first = static_cast<uint32_t>(offset_bytes / chunk);
  auto last = static_cast<uint32_t>((end - 1) / chunk);
  auto from = static_cast<uint32_t>(offset_bytes % chunk);
  auto to = static_cast<uint32_t>(end - uint64_t{last} * chunk);  // in the last chunk
  if (first == last) return {{from, to - from, bit(first)}};
  // The first chunk is written from `from` on, the last one up to `to`, those between as a whole.
  uint64_t between = first_bits(last) & ~first_bits(first + 1);
  std::array<uint32_t, 4> cuts = {0, std::min(from, to), std::max(from, to), chunk};
  std::vector<Band> bands;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    uint64_t mask = between;
    if (cuts[i] >= from) mask |= bit(first);
    if (cuts[i] < to) mask |= bit(last);
    if (cuts[i] == cuts[i + 1] || mask == 0) continue;
    if (!bands.empty() && bands.back().written_mask == mask) {
      bands.back().length_bytes += cuts[i + 1] - cuts[i];
    } else {
      bands.push_back({cuts[i], cuts[i + 1] - cuts[i], mask});
    }
  }
  return bands;
}

BandPlan plan_band(const Shape& shape, const Band& band, uint64_t away_mask,
                   uint64_t unreadable_mask) {
  uint64_t data = first_bits(shape.data_chunks());
  uint64_t parity = first_bits(shape.members) & ~data;
  uint64_t others = data & ~band.written_mask;
  BandPlan plan;
  plan.lost_mask = away_mask | unreadable_mask;
  plan.change_mask = (band.written_mask | parity) & ~away_mask;
  if ((parity & ~away_mask) == 0) return plan;  // nothing to keep right
  std::optional<BandPlan> best;
  auto offer = [&](BandMode mode, uint64_t reads) {
    if (best && count_of(best->read_mask) <= count_of(reads)) return;
    best = plan;
    best->mode = mode;
    best->read_mask = reads;
  };
  if ((others & plan.lost_mask) == 0) offer(BandMode::kReconstruct, others);
  uint64_t modified = band.written_mask | (parity & ~away_mask);
  if ((modified & plan.lost_mask) == 0) offer(BandMode::kModify, modified);
  if (!best) offer(BandMode::kRebuild, lowest_bits(~plan.lost_mask, shape.data_chunks()));
  return *best;
}

void encode_band(const ParityCode& code, const Band& band, const BandPlan& plan,
                 std::span<std::byte* const> old, std::span<std::byte* const> made, Bytes scratch) {
  uint32_t data_count = code.data();
  size_t bytes = band.length_bytes;
  std::array<std::byte*, kParityMax> parity{};
  bool any = false;
  for (uint32_t i = 0; i < code.parity(); ++i) {
    parity[i] = made[data_count + i];
    any |= parity[i] != nullptr;
  }
  if (!any) return;
  if (plan.mode == BandMode::kModify) {
    for (uint32_t i = 0; i < code.parity(); ++i) {
      std::byte* before = old[data_count + i];
      if (parity[i] != nullptr && parity[i] != before) std::memcpy(parity[i], before, bytes);
    }
    for (uint32_t i = 0; i < data_count; ++i) {
      if ((band.written_mask & bit(i)) == 0) continue;
      xor_into(old[i], made[i], bytes);  // the difference
      code.update(i, old[i], parity.data(), bytes);
    }
    return;
  }
  Pointers data{};
  for (uint32_t i = 0; i < data_count; ++i) data[i] = old[i];
  if (plan.mode == BandMode::kRebuild) bring_back(code, band, plan.lost_mask, old, data, scratch);
  for (uint32_t i = 0; i < data_count; ++i) {
    if ((band.written_mask & bit(i)) != 0) data[i] = made[i];
  }
  // What is lost is encoded too, to nowhere.
  std::byte* nowhere = scratch.data() + kParityMax * bytes;
  for (uint32_t i = 0; i < code.parity(); ++i) {
    if (parity[i] == nullptr) parity[i] = nowhere;
  }
  code.encode(data.data(), parity.data(), bytes);
}

}  // namespace bb::raid
