// SPDX-License-Identifier: Apache-2.0
#include "raid/resync_plan.h"

#include <algorithm>

namespace bb::raid {
namespace {

struct Needs {
  bool equalise = false;
  MemberMask behind_mask;
  bool operator==(const Needs&) const = default;
};

Needs needs_of(uint64_t region, const RegionSet& unequal, const RegionSet& copied,
               std::span<const BehindSet> behind) {
  Needs needs;
  // While it is being made equal, nobody knows from whom to copy it.
  if (unequal.test(region) && copied.test(region)) return needs;
  needs.equalise = unequal.test(region);
  for (const BehindSet& set : behind) {
    if (set.regions->test(region)) needs.behind_mask.set(set.bit);
  }
  return needs;
}

}  // namespace

ResyncExtent next_resync_extent(const Geometry& geometry, const RegionSet& unequal,
                                const RegionSet& copied, std::span<const BehindSet> behind,
                                uint64_t cursor, uint64_t length_max_bytes) {
  uint64_t regions = geometry.regions();
  auto first_from = [&](uint64_t start) {
    uint64_t found = regions;
    for (uint64_t r = unequal.next(start); r < regions; r = unequal.next(r + 1)) {
      if (copied.test(r)) continue;
      found = r;
      break;
    }
    for (const BehindSet& set : behind) {
      uint64_t r = set.regions->next(start);
      while (r < found && unequal.test(r) && copied.test(r)) r = set.regions->next(r + 1);
      found = std::min(found, r);
    }
    return found;
  };
  uint64_t first = first_from(std::min(cursor, regions));
  if (first == regions) first = first_from(0);
  if (first == regions) return {};
  Needs needs = needs_of(first, unequal, copied, behind);
  uint64_t max = std::max<uint64_t>(1, length_max_bytes / geometry.region_size_bytes);
  uint64_t count = 1;
  while (count < max && first + count < regions &&
         needs_of(first + count, unequal, copied, behind) == needs) {
    ++count;
  }
  return {.regions = {first, count}, .equalise = needs.equalise, .behind_mask = needs.behind_mask};
}

uint64_t Throttle::take(uint64_t now_ns, uint64_t bytes, uint64_t bytes_per_second) {
  if (bytes_per_second == 0) return now_ns;
  constexpr uint64_t kSecond = 1'000'000'000;
  uint64_t cost_ns = bytes * kSecond / bytes_per_second;
  free_at_ns_ = std::max(free_at_ns_, now_ns) + cost_ns;
  return free_at_ns_;
}

uint32_t choose_read_member(std::span<const ReadCandidate> candidates, uint32_t rotation) {
  uint32_t best = kNoCandidate;
  auto count = static_cast<uint32_t>(candidates.size());
  for (uint32_t step = 0; step < count; ++step) {
    uint32_t i = (rotation + step) % count;
    if (!candidates[i].usable) continue;
    if (best == kNoCandidate) {
      best = i;
      continue;
    }
    const ReadCandidate& one = candidates[i];
    const ReadCandidate& other = candidates[best];
    if (one.avoided != other.avoided) {
      if (other.avoided) best = i;
      continue;
    }
    bool idler = one.in_flight < other.in_flight;
    bool as_idle = one.in_flight == other.in_flight;
    if (idler || (as_idle && one.goes_on && !other.goes_on)) best = i;
  }
  return best;
}

}  // namespace bb::raid
