// SPDX-License-Identifier: Apache-2.0
#include "raid/resync_pace.h"

#include <algorithm>

namespace bb::raid {
namespace {

constexpr uint64_t kFirstRate = 64u << 20;  // the host may have a slow drive

}  // namespace

void ResyncPace::host_done(uint64_t latency_ns) {
  samples_[count_++ % samples_.size()] = latency_ns;
}

void ResyncPace::begin(Phase phase, uint64_t now_ns, uint64_t length_ns) {
  phase_ = phase;
  until_ns_ = now_ns + length_ns;
  count_ = 0;
}

uint64_t ResyncPace::p99() {
  size_t count = std::min(count_, samples_.size());
  auto at = samples_.begin() + static_cast<ptrdiff_t>(count * 99 / 100);
  std::nth_element(samples_.begin(), at, samples_.begin() + static_cast<ptrdiff_t>(count));
  return *at;
}

// Down by a third where the host suffers, up by an eighth where it hardly notices, by a quarter
// where it does not.
void ResyncPace::decide(uint64_t least, uint64_t limit) {
  beside_p99_ns_ = p99();
  uint64_t percent = 100 * beside_p99_ns_ / std::max<uint64_t>(alone_p99_ns_, 1);
  constexpr uint64_t kMore = kTargetPercent - 100;
  if (percent > 100 + kMore * 9 / 10) {
    rate_ = rate_ / 3 * 2;
  } else if (percent < 100 + kMore * 2 / 3) {
    rate_ += rate_ / (percent < 100 + kMore / 4 ? 4 : 8);
  }
  rate_ = std::clamp(rate_, std::max<uint64_t>(least, 1), std::max<uint64_t>({least, limit, 1}));
}

uint64_t ResyncPace::rate(uint64_t now_ns, uint64_t least, uint64_t limit) {
  bool anew = phase_ == Phase::kIdle || !wants(now_ns);
  asked_ns_ = now_ns;
  if (anew) {
    rate_ = std::max<uint64_t>({least, std::min(limit / 8, kFirstRate), 1});
    begin(Phase::kRest, now_ns, kRestNs);
    return 0;
  }
  if (now_ns < until_ns_) return phase_ == Phase::kRest ? 0 : rate_;
  if (phase_ == Phase::kRest) {
    if (count_ >= kSamplesLeast) alone_p99_ns_ = p99();
    alone_until_ns_ = now_ns + kAloneNs;
    begin(Phase::kRun, now_ns, kWindowNs);
    return rate_;
  }
  if (count_ >= kSamplesLeast && alone_p99_ns_ != 0) decide(least, limit);
  if (now_ns >= alone_until_ns_) {
    begin(Phase::kRest, now_ns, kRestNs);
    return 0;
  }
  begin(Phase::kRun, now_ns, kWindowNs);
  return rate_;
}

}  // namespace bb::raid
