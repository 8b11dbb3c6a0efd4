// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <bitset>
#include <cstdint>
#include <span>

#include "raid/geometry.h"
#include "raid/region_set.h"

namespace bb::raid {

inline constexpr uint32_t kMembersEver = 128;  // in one life of an array object
using MemberMask = std::bitset<kMembersEver>;  // by a member's index in it

// One piece of copying: neighbouring regions with the same needs.
struct ResyncExtent {
  RegionRange regions;
  bool equalise = false;   // in-sync members may differ here
  MemberMask behind_mask;  // who lacks these regions
  bool none() const { return regions.count == 0; }
};

// What one recovering member lacks; `bit` names it in the masks.
struct BehindSet {
  uint32_t bit = 0;
  RegionSet* regions = nullptr;
};

// The next piece at or after `cursor`, then from the start; at most `length_max_bytes` (but one
// region at least). Pure choice: nothing is marked.
ResyncExtent next_resync_extent(const Geometry& geometry, const RegionSet& unequal,
                                const RegionSet& copied, std::span<const BehindSet> behind,
                                uint64_t cursor, uint64_t length_max_bytes);

// Spaces copies out so that they keep to a rate.
class Throttle {
 public:
  // When the copy of `bytes` at this rate (0: unlimited) may go on.
  uint64_t take(uint64_t now_ns, uint64_t bytes, uint64_t bytes_per_second);

 private:
  uint64_t free_at_ns_ = 0;
};

// Which member a read goes to: none that is avoided; the least busy; of those the one that read
// just before this place, else one after the other.
struct ReadCandidate {
  bool usable = false;
  bool goes_on = false;  // its latest read ended here
  uint32_t in_flight = 0;
  bool avoided = false;  // it is chosen only if all others are too
};
inline constexpr uint32_t kNoCandidate = UINT32_MAX;
uint32_t choose_read_member(std::span<const ReadCandidate> candidates, uint32_t rotation);

}  // namespace bb::raid
