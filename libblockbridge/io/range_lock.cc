// SPDX-License-Identifier: Apache-2.0
#include "io/range_lock.h"

#include "base/check.h"

namespace bb::io {
namespace {

bool touch(const RangeTicket& a, const RangeTicket& b) {
  return a.offset_bytes < b.offset_bytes + b.length_bytes &&
         b.offset_bytes < a.offset_bytes + a.length_bytes;
}

bool clash(const RangeTicket& a, const RangeTicket& b) {
  return (a.mode == LockMode::kExclusive || b.mode == LockMode::kExclusive) && touch(a, b);
}

}  // namespace

bool RangeLock::overlaps(const List& list, const RangeTicket& ticket) {
  for (const RangeTicket& other : list) {
    if (touch(other, ticket)) return true;
  }
  return false;
}

bool RangeLock::blocked_by_held(const RangeTicket& ticket) const {
  if (overlaps(exclusive_, ticket)) return true;
  return ticket.mode == LockMode::kExclusive && overlaps(shared_, ticket);
}

// Whoever came earlier and clashes goes first.
bool RangeLock::blocked_by_waiting(const RangeTicket& ticket) const {
  for (const RangeTicket& other : waiting_) {
    if (&other == &ticket) return false;
    if (clash(other, ticket)) return true;
  }
  return false;
}

void RangeLock::hold(RangeTicket& ticket) {
  ticket.held = true;
  (ticket.mode == LockMode::kExclusive ? exclusive_ : shared_).push_back(ticket);
}

bool RangeLock::try_acquire(RangeTicket& ticket) {
  BB_CHECK(!ticket.held && !ticket.is_linked(), "a range lock was taken twice");
  if (blocked_by_held(ticket) || blocked_by_waiting(ticket)) return false;
  hold(ticket);
  return true;
}

bool RangeLock::acquire(RangeTicket& ticket) {
  if (try_acquire(ticket)) return true;
  waiting_.push_back(ticket);
  return false;
}

void RangeLock::release(RangeTicket& ticket) {
  BB_CHECK(ticket.held, "a range lock was released that was not held");
  ticket.held = false;
  List& list = ticket.mode == LockMode::kExclusive ? exclusive_ : shared_;
  list.erase(list.iterator_to(ticket));
  grant();
}

void RangeLock::cancel(RangeTicket& ticket) {
  BB_CHECK(!ticket.held && ticket.is_linked(),
           "a range lock's wish was cancelled that does not wait");
  waiting_.erase(waiting_.iterator_to(ticket));
  grant();
}

void RangeLock::grant() {
  // `granted` may take or release locks at once, so the search begins anew after each.
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    RangeTicket& waiting = *it;
    if (blocked_by_held(waiting) || blocked_by_waiting(waiting)) {
      ++it;
      continue;
    }
    waiting_.erase(it);
    hold(waiting);
    waiting.granted(&waiting);
    it = waiting_.begin();
  }
}

}  // namespace bb::io
