// SPDX-License-Identifier: Apache-2.0
// Compare and Write (NVMe base 2.0, 3.4.2; NVM command set 1.0, 2.1.3): two commands next to each
// other that are one. Nobody's write falls between them, whatever controller it comes by.
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

// A command has come that is a half, or after a first half. `status`: what its plan gave.
NvmeStatus TargetQueue::pair(uint16_t index, NvmeStatus status) {
  TargetSlot& slot = slots_[index];
  uint8_t fuse = slot.sqe.flags & kFlagFuseMask;
  uint16_t first = std::exchange(first_half_, kNoSlot);
  bool first_failed = std::exchange(first_half_failed_, false);
  if (fuse == kFlagFuseSecond) {
    if (first_failed) return final_status(NvmeStatus::kFailedFused);
    if (first == kNoSlot) return final_status(NvmeStatus::kMissingFused);
    return join(first, index, status);
  }
  if (first != kNoSlot) {
    slots_[first].half = Half::kNone;
    (void)cancel(first, final_status(NvmeStatus::kMissingFused));
  }
  if (fuse == 0) return status;
  if (fuse != kFlagFuseFirst) return final_status(NvmeStatus::kInvalidField);
  if (status == NvmeStatus::kSuccess && slot.work != Work::kCompare) {
    status = final_status(NvmeStatus::kInvalidField);
  }
  first_half_failed_ = status != NvmeStatus::kSuccess;
  if (!first_half_failed_) {
    first_half_ = index;
    slot.half = Half::kFirst;
  }
  return status;
}

NvmeStatus TargetQueue::join(uint16_t first, uint16_t second, NvmeStatus status) {
  TargetSlot& compare = slots_[first];
  TargetSlot& write = slots_[second];
  bool fits = write.work == Work::kOne && write.io.op == TargetOp::kWrite &&
              write.name_space == compare.name_space &&
              write.io.offset_bytes == compare.io.offset_bytes &&
              write.io.length_bytes == compare.io.length_bytes;
  if (status == NvmeStatus::kSuccess && fits) {
    write.half = Half::kSecond;
    write.partner = first;
    compare.partner = second;
    return status;
  }
  bool mismatch = status == NvmeStatus::kSuccess;
  if (mismatch) status = final_status(NvmeStatus::kInvalidField);
  compare.half = Half::kNone;
  (void)cancel(first, mismatch ? status : final_status(NvmeStatus::kFailedFused));
  return status;
}

// Its data are there, and its memory.
void TargetQueue::on_half_ready(uint16_t index) {
  TargetSlot& slot = slots_[index];
  slot.state = State::kPaired;
  if (slot.partner == kNoSlot || slots_[slot.partner].state != State::kPaired) return;
  uint16_t first = slot.half == Half::kFirst ? index : slot.partner;
  TargetSlot& compare = slots_[first];
  compare.io.data = compare.scratch;
  compare.state = State::kReady;
  if (hold_range(compare, LockMode::kExclusive)) io_ready_.push(first);
}

// The device has read for the Compare, or has written, or shall do neither any more.
void TargetQueue::on_half_done(uint16_t index, NvmeStatus status) {
  TargetSlot& slot = slots_[index];
  if (slot.half == Half::kSecond) return end_pair(slot.partner, NvmeStatus::kSuccess, status);
  TargetSlot& write = slots_[slot.partner];
  if (slot.status != NvmeStatus::kSuccess) status = slot.status;  // aborted meanwhile
  NvmeStatus second = write.status;
  bool goes_on = status == NvmeStatus::kSuccess && second == NvmeStatus::kSuccess && !closing_;
  if (!goes_on) {
    auto failed = final_status(NvmeStatus::kFailedFused);
    if (status == NvmeStatus::kSuccess) status = failed;
    return end_pair(index, status, second == NvmeStatus::kSuccess ? failed : second);
  }
  slot.state = State::kPaired;  // it keeps the range
  write.io.data = write.data;
  write.state = State::kReady;
  io_ready_.push(slot.partner);
}

void TargetQueue::end_pair(uint16_t first, NvmeStatus first_status, NvmeStatus second_status) {
  TargetSlot& compare = slots_[first];
  uint16_t second = std::exchange(compare.partner, kNoSlot);
  TargetSlot& write = slots_[second];
  write.partner = kNoSlot;
  compare.half = Half::kNone;
  write.half = Half::kNone;
  if (compare.lock.held) compare.name_space->writes.release(compare.lock);
  answer(first, first_status);
  answer(second, second_status);
}

// A half that failed before both were whole (its data came damaged): the other fails with it, at
// once or when its data are there, or when it comes.
void TargetQueue::on_half_answered(uint16_t index) {
  TargetSlot& slot = slots_[index];
  slot.half = Half::kNone;
  if (first_half_ == index) {
    first_half_ = kNoSlot;
    first_half_failed_ = true;
  }
  uint16_t partner = std::exchange(slot.partner, kNoSlot);
  if (partner == kNoSlot) return;
  slots_[partner].partner = kNoSlot;
  slots_[partner].half = Half::kNone;
  (void)cancel(partner, final_status(NvmeStatus::kFailedFused));
}

// The halves of a pair of which one is to be aborted.
bool TargetQueue::cancel_pair(uint16_t index, NvmeStatus status) {
  TargetSlot& slot = slots_[index];
  uint16_t first = slot.half == Half::kFirst ? index : slot.partner;
  TargetSlot& compare = slots_[first];
  TargetSlot& write = slots_[compare.partner];
  if (write.state == State::kDevice) return false;
  if (compare.state == State::kDevice) {  // it ends when that has been read
    slot.status = status;
    return true;
  }
  if (compare.state == State::kLocked) compare.name_space->writes.cancel(compare.lock);
  if (compare.state == State::kReady) io_ready_.remove(first);
  if (write.state == State::kReady) io_ready_.remove(compare.partner);
  auto failed = final_status(NvmeStatus::kFailedFused);
  end_pair(first, index == first ? status : failed, index == first ? failed : status);
  return true;
}

}  // namespace bb::io::nvme
