// SPDX-License-Identifier: Apache-2.0
// Memory for data, and waiting for it. What a command holds while it waits is not counted (what
// came in capsules, and the lists of ranges), so that nobody waits for somebody who waits.
#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

// Gets memory for the data, then has it sent by the host or fetched from the device.
void TargetQueue::start(uint16_t index, uint64_t now_ns) {
  TargetSlot& slot = slots_[index];
  if (slot.length_bytes == 0) return execute(index, now_ns);
  if (may_lend(slot)) {
    slot.io.may_lend = true;
    return execute(index, now_ns);
  }
  slot.capacity_bytes = capacity_for(slot.length_bytes);
  if (slot.in_capsule) {  // bounded by the queue's depth; it cannot be made to wait
    slot.data = host_.take_buffer(slot.capacity_bytes);
    receiving_ = index;
    discarding_ = false;
    long_data_ = false;
    return;
  }
  if (have_memory(index)) have_buffer(index, now_ns);
}

// False: the command waits for it.
bool TargetQueue::have_memory(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (memory_wanted(slot) == 0 || (waiting_.empty() && fits(slot))) {
    take_memory(slot);
    return true;
  }
  slot.state = State::kWaiting;
  waiting_.push(index);
  return false;
}

// What the command takes next, as far as it counts.
uint32_t TargetQueue::memory_wanted(const TargetSlot& slot) const {
  if (slot.in_capsule && slot.work == Work::kCompare) return 0;
  // The second half of a fused operation is paid for by the first, or pairs could wait for each
  // other.
  bool paid =
      slot.half == Half::kSecond && slot.partner != kNoSlot && !slots_[slot.partner].in_capsule;
  if (paid) return 0;
  bool ranges = slot.work == Work::kCopy || slot.work == Work::kDiscards;
  bool data = slot.data == nullptr && slot.length_bytes > 0 && !ranges;
  uint32_t bytes = data ? slot.capacity_bytes : 0;
  if (data && slot.half == Half::kFirst) bytes += slot.capacity_bytes;  // what will be written
  return bytes + (slot.scratch == nullptr ? slot.scratch_bytes : 0);
}

bool TargetQueue::fits(const TargetSlot& slot) const {
  return buffered_bytes_ == 0 || buffered_bytes_ + memory_wanted(slot) <= core_.buffer_share();
}

void TargetQueue::take_memory(TargetSlot& slot) {
  uint32_t wanted = memory_wanted(slot);
  slot.charged_bytes += wanted;
  buffered_bytes_ += wanted;
  core_.buffered_bytes += wanted;
  if (slot.data == nullptr && slot.length_bytes > 0) {
    slot.data = host_.take_buffer(slot.capacity_bytes);
  }
  if (slot.scratch == nullptr && slot.scratch_bytes > 0) {
    slot.scratch = host_.take_buffer(slot.scratch_bytes);
  }
}

void TargetQueue::give_data(TargetSlot& slot) {
  if (slot.lent) return give_back(slot);
  if (slot.scratch != nullptr) host_.give_buffer(slot.scratch, slot.scratch_bytes);
  if (slot.data != nullptr) host_.give_buffer(slot.data, slot.capacity_bytes);
  slot.scratch = nullptr;
  slot.data = nullptr;
  buffered_bytes_ -= slot.charged_bytes;
  core_.buffered_bytes -= slot.charged_bytes;
  slot.charged_bytes = 0;
}

void TargetQueue::serve_waiting(uint64_t now_ns) {
  while (!waiting_.empty() && !closing_) {
    uint16_t index = waiting_.front();
    TargetSlot& slot = slots_[index];
    if (!fits(slot)) return;
    waiting_.pop();
    bool starts = slot.data == nullptr && slot.length_bytes > 0;
    take_memory(slot);
    if (starts) {
      have_buffer(index, now_ns);
    } else {
      begin(index);
    }
  }
}

void TargetQueue::have_buffer(uint16_t index, uint64_t now_ns) {
  TargetSlot& slot = slots_[index];
  if (slot.to_host) return execute(index, now_ns);
  slot.state = State::kReceiving;
  // All at once: never more than one R2T for a command.
  R2t r2t{.command_id = slot.sqe.command_id,
          .transfer_tag = index,
          .offset_bytes = 0,
          .length_bytes = slot.length_bytes};
  slot.head_bytes = static_cast<uint8_t>(r2t.encode(slot.head, out_format_));
  to_send_.push(index);
}

}  // namespace bb::io::nvme
