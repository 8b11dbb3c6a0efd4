// SPDX-License-Identifier: Apache-2.0
// pure: has a write been lost that the host believes to be in the cache?
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace bb::io::ublk {

// A device whose incarnation rises may have lost completed, unflushed writes; the kernel's block
// layer has no word for that. Its next flush is failed, once: whoever called fsync() learns of it.
// One flush at a time, as the block layer sends them.
class Unflushed {
 public:
  // A write without FUA completed; `incarnation` is the device's when it was submitted.
  void on_written(uint64_t incarnation) {
    oldest_ = oldest_ ? std::min(*oldest_, incarnation) : incarnation;
  }
  void on_flush_begins() {
    if (!oldest_) return;
    covered_ = covered_ ? std::min(*covered_, *oldest_) : *oldest_;
    oldest_.reset();
  }
  // True: the flush succeeded on the device, but not all it should cover was still there.
  bool on_flush_ends(bool succeeded, uint64_t incarnation) {
    if (!succeeded) return false;  // what it covered stays to be covered
    bool lost = covered_ && *covered_ != incarnation;
    covered_.reset();
    return lost;
  }

 private:
  std::optional<uint64_t> oldest_;   // incarnation of the oldest write no flush has begun after
  std::optional<uint64_t> covered_;  // of those that the flush under way is to make durable
};

}  // namespace bb::io::ublk
