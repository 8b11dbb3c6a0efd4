// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of arrays share: clocks, medians, and a place for the record.
#pragma once

#include <algorithm>
#include <ctime>
#include <vector>

#include "raid/membership_authority.h"

namespace bb::bench {

inline double seconds_of(clockid_t clock) {
  timespec at{};
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}
inline double cpu_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }
inline double wall_seconds() { return seconds_of(CLOCK_MONOTONIC); }

inline double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Keeps the record of one array, and agrees with everything while it can be reached.
class Authority final : public raid::MembershipAuthority {
 public:
  bool reachable = true;
  const raid::MembershipRecord& record() const { return record_; }

  io::Task<Result<raid::MembershipRecord>> load(Uuid) override { co_return record_; }
  io::Task<Status> create(raid::MembershipRecord record) override {
    record_ = std::move(record);
    co_return Status();
  }
  io::Task<Status> commit(raid::MembershipRecord record, uint64_t) override {
    if (!reachable) co_return error(Code::k_unavailable, "the authority is away");
    record_ = std::move(record);
    co_return Status();
  }

 private:
  raid::MembershipRecord record_;
};

}  // namespace bb::bench
