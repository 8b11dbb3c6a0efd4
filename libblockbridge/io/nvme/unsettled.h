// SPDX-License-Identifier: Apache-2.0
// pure: writes that were given up and may yet happen
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bb::io::nvme {

// When a lost association can no longer have an effect: as soon as its path has settled all up to
// that number, at the latest at a time (UINT64_MAX: never by itself).
struct Fence {
  size_t path = 0;
  uint64_t association = 0;
  uint64_t at_ns = 0;
};

// Ranges of writes that failed while their association may still execute them. Whatever overlaps
// one of them must wait: behind a later write the old one would come out of order, and a read could
// see first that it did not happen and then that it did. (A write that has not failed yet is in
// flight: with it others have no order anyway.)
class Unsettled {
 public:
  void add(uint64_t offset_bytes, uint64_t length_bytes, Fence fence);
  bool overlaps(uint64_t offset_bytes, uint64_t length_bytes) const;
  // True when something was taken out.
  bool expire(uint64_t now_ns);
  bool settle(size_t path, uint64_t below_association);
  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint64_t offset_bytes;
    uint64_t length_bytes;
    Fence fence;
  };
  std::vector<Entry> entries_;
};

// NVMe base 2.1, 9.6 with 3.9 (in 2.0 the times are there, but not yet the rule): how long after
// the host has cut an association its controller may still execute commands of it. Traffic based
// keep alive looks once in each interval whether there was any, so it takes up to two to notice;
// one more is for what is still in the network; then come the commands in progress.
struct FenceTimes {
  uint64_t keep_alive_ns = 0;  // as the controller rounds it; 0: none, it never gives up
  bool traffic_keeps_alive = false;
  uint64_t quiesce_ns = 0;  // CQT; 0: not reported
};
inline constexpr uint64_t kQuiesceDefaultNs = 10'000'000'000;
uint64_t fence_after_ns(const FenceTimes& times);  // UINT64_MAX: never

}  // namespace bb::io::nvme
