// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/unsettled.h"

#include <algorithm>

namespace bb::io::nvme {

void Unsettled::add(uint64_t offset_bytes, uint64_t length_bytes, Fence fence) {
  entries_.push_back({.offset_bytes = offset_bytes, .length_bytes = length_bytes, .fence = fence});
}

bool Unsettled::overlaps(uint64_t offset_bytes, uint64_t length_bytes) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return offset_bytes < entry.offset_bytes + entry.length_bytes &&
           entry.offset_bytes < offset_bytes + length_bytes;
  });
}

bool Unsettled::expire(uint64_t now_ns) {
  return std::erase_if(entries_, [now_ns](const Entry& e) { return e.fence.at_ns <= now_ns; }) > 0;
}

bool Unsettled::settle(size_t path, uint64_t below_association) {
  return std::erase_if(entries_, [&](const Entry& e) {
           return e.fence.path == path && e.fence.association < below_association;
         }) > 0;
}

uint64_t fence_after_ns(const FenceTimes& times) {
  if (times.keep_alive_ns == 0) return UINT64_MAX;
  uint64_t intervals = times.traffic_keeps_alive ? 3 : 2;
  uint64_t quiesce_ns = times.quiesce_ns == 0 ? kQuiesceDefaultNs : times.quiesce_ns;
  return intervals * times.keep_alive_ns + quiesce_ns;
}

}  // namespace bb::io::nvme
