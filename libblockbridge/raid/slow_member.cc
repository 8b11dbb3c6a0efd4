// SPDX-License-Identifier: Apache-2.0
#include "raid/slow_member.h"

#include <algorithm>

namespace bb::raid {

std::vector<Pace> compare_paces(std::span<const MemberWork> work) {
  std::vector<Pace> paces(work.size(), Pace::kUnknown);
  for (size_t i = 0; i < work.size(); ++i) {
    if (work[i].requests < kSlowRequestsLeast) continue;
    std::vector<uint64_t> others;
    for (size_t j = 0; j < work.size(); ++j) {
      if (j != i && work[j].requests >= kSlowRequestsLeast) others.push_back(work[j].mean_ns());
    }
    if (others.empty()) continue;
    auto middle = others.begin() + static_cast<ptrdiff_t>(others.size() / 2);
    std::ranges::nth_element(others, middle);
    uint64_t bar_ns = std::max(kSlowLeastNs, kSlowTimes * *middle);
    paces[i] = work[i].mean_ns() > bar_ns ? Pace::kSlow : Pace::kFine;
  }
  return paces;
}

void SlowMember::period(Pace pace, uint64_t now_ns) {
  if (pace == Pace::kUnknown) return;
  bool says_slow = pace == Pace::kSlow;
  against_ = says_slow == slow_ ? 0 : against_ + 1;
  if (against_ < (slow_ ? kPeriodsToFine : kPeriodsToSlow)) return;
  slow_ = says_slow;
  since_ns_ = now_ns;
  against_ = 0;
}

}  // namespace bb::raid
