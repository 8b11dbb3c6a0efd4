// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bb::raid {

// What a member did in one period.
struct MemberWork {
  uint64_t requests = 0;
  uint64_t total_ns = 0;  // that they took, together

  uint64_t mean_ns() const { return requests == 0 ? 0 : total_ns / requests; }
};

enum class Pace : uint8_t { kUnknown, kFine, kSlow };

inline constexpr uint64_t kSlowTimes = 8;            // the median of its peers …
inline constexpr uint64_t kSlowLeastNs = 5'000'000;  // … and no less than that
inline constexpr uint64_t kSlowRequestsLeast = 8;    // fewer say nothing

// How each of these did, compared with the others; unknown where it or they did too little.
std::vector<Pace> compare_paces(std::span<const MemberWork> work);

// A member is slow after some periods in which it was, and no longer after some in which it was
// not.
class SlowMember {
 public:
  static constexpr uint32_t kPeriodsToSlow = 3;
  static constexpr uint32_t kPeriodsToFine = 5;
  static constexpr uint32_t kProbe = 32;  // one read in so many goes to it all the same

  void period(Pace pace, uint64_t now_ns);
  bool slow() const { return slow_; }
  uint64_t since_ns() const { return since_ns_; }  // of being slow
  // Is a read to go elsewhere, if it can?
  bool avoid() { return slow_ && ++asked_ % kProbe != 0; }

 private:
  bool slow_ = false;
  uint32_t against_ = 0;  // periods in a row that say otherwise
  uint32_t asked_ = 0;
  uint64_t since_ns_ = 0;
};

}  // namespace bb::raid
