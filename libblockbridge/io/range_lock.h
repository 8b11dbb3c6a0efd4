// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>

namespace bb::io {

enum class LockMode : uint8_t { kShared, kExclusive };

// A wish to hold a range; lives in whoever waits.
struct RangeTicket : boost::intrusive::list_base_hook<> {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  LockMode mode = LockMode::kShared;
  bool held = false;
  void (*granted)(RangeTicket*) = nullptr;  // called when a wish that had to wait is met
};

// Orders what overlaps. In an array: writes that overlap reach all members in one order, a copy
// sees no half of a write, a read sees a write on every member or on none. In a target: nobody
// writes between the halves of a Compare and Write. First come, first served, so nobody starves;
// without exclusive wishes it costs two links.
class RangeLock {
 public:
  // True: held now. False: `granted` will be called from some release().
  bool acquire(RangeTicket& ticket);
  bool try_acquire(RangeTicket& ticket);  // false: it is not held, and waits for nothing
  void release(RangeTicket& ticket);
  void cancel(RangeTicket& ticket);  // a wish that waits
  bool idle() const { return shared_.empty() && exclusive_.empty() && waiting_.empty(); }

 private:
  using List = boost::intrusive::list<RangeTicket, boost::intrusive::constant_time_size<false>>;
  static bool overlaps(const List& list, const RangeTicket& ticket);
  bool blocked_by_held(const RangeTicket& ticket) const;
  bool blocked_by_waiting(const RangeTicket& ticket) const;
  void hold(RangeTicket& ticket);
  void grant();

  List shared_, exclusive_, waiting_;
};

}  // namespace bb::io
