// SPDX-License-Identifier: Apache-2.0
// Reads that are sent from the device's own memory, and how the device gets it back soon: such a
// send takes what the socket has room for; what is left of lent data is then copied, and waits for
// the peer as any other.
#include <cstring>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

// Not where a digest must be computed: to go through memory that no cache holds costs more time
// than the copy, which leaves the data where the digest and the socket find them (decision 004).
bool TargetQueue::may_lend(const TargetSlot& slot) const {
  bool reads = slot.work == Work::kOne && slot.to_host;
  return reads && !out_format_.digests.data && slot.half == Half::kNone &&
         host_.lends(*slot.name_space);
}

// Behind a send that waits for the peer nothing is on loan: the device would wait for it, too.
bool TargetQueue::must_wait_to_lend(const TargetSlot& slot) const {
  bool full = lent_bytes_ > 0 && lent_bytes_ + slot.length_bytes > core_.limits().lent_bytes;
  return waits_for_peer_ || full;
}

// Its namespace has got a device that lends nothing, since the command came.
void TargetQueue::borrow_no_more(TargetSlot& slot) {
  slot.io.may_lend = false;
  slot.capacity_bytes = capacity_for(slot.length_bytes);
  take_memory(slot);
  slot.io.data = slot.data;
}

void TargetQueue::lend(uint16_t index, ConstBytes data) {
  TargetSlot& slot = slots_[index];
  BB_CHECK(slot.io.may_lend && data.size() == slot.length_bytes, "{} bytes were lent, not {}",
           data.size(), slot.length_bytes);
  slot.lent = true;
  slot.data = const_cast<std::byte*>(data.data());  // only ever sent
}

void TargetQueue::give_back(TargetSlot& slot) {
  slot.lent = false;
  slot.data = nullptr;
  lent_bytes_ -= slot.length_bytes;
  host_.give_back(slot.lock.slot);
  left_device(slot);
  slot.name_space.reset();
}

void TargetQueue::left_device(TargetSlot& slot) {
  --io_in_flight_;
  --slot.name_space->io_in_flight;
  if (closing_ && io_in_flight_ == 0) core_.came_back(*this);
}

std::vector<iovec>* TargetQueue::rest_after(size_t sent_bytes) {
  size_t whole = 0;  // pieces that have left
  for (; whole < iov_.size() && sent_bytes >= iov_[whole].iov_len; ++whole) {
    sent_bytes -= iov_[whole].iov_len;
  }
  bool all = whole == iov_.size();
  BB_CHECK(sending_ && (!all || sent_bytes == 0), "{} bytes more were sent than there were",
           sent_bytes);
  if (all) return nullptr;
  waits_for_peer_ = true;
  keep_lent(whole);
  iov_.erase(iov_.begin(), iov_.begin() + static_cast<ptrdiff_t>(whole));
  iov_.front().iov_base = static_cast<std::byte*>(iov_.front().iov_base) + sent_bytes;
  iov_.front().iov_len -= sent_bytes;
  return &iov_;
}

// Gives back what is lent to the present send, and keeps copies for the pieces from `first` on. The
// pieces are in the order of the slots; one is all of a slot's data.
void TargetQueue::keep_lent(size_t first) {
  size_t piece = 0;
  for (uint16_t index : being_sent_) {
    TargetSlot& slot = slots_[index];
    if (!slot.lent) continue;
    while (iov_[piece].iov_base != slot.data) ++piece;
    if (piece < first) {
      give_back(slot);
    } else {
      keep_copy(slot);
      iov_[piece].iov_base = slot.data;
    }
    ++piece;  // the next slot may have been lent the same
  }
}

// Gives back what is lent; the slot has a copy from now on.
void TargetQueue::keep_copy(TargetSlot& slot) {
  uint32_t capacity = capacity_for(slot.length_bytes);
  std::byte* copy = host_.take_buffer(capacity);
  std::memcpy(copy, slot.data, slot.length_bytes);
  give_back(slot);
  slot.data = copy;
  slot.capacity_bytes = capacity;
}

}  // namespace bb::io::nvme
