// SPDX-License-Identifier: Apache-2.0
// Commands with the device: each is one I/O, or several one after the other.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/mutant.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

bool is_stepwise(TargetSlot::Work work) {
  using Work = TargetSlot::Work;
  return work == Work::kDiscards || work == Work::kFlushes || work == Work::kCopy;
}

struct BlockRange {
  uint64_t first = 0;
  uint64_t blocks = 0;
};

// NVM command set 1.0, 3.2.2: a source range of format 0.
BlockRange copy_range(const TargetSlot& slot, uint16_t which) {
  const std::byte* range = slot.data + which * kCopyRangeBytes;
  return {.first = load_le<uint64_t>(range + 8), .blocks = load_le<uint16_t>(range + 16) + 1u};
}

}  // namespace

// Its data are all there.
void TargetQueue::execute_io(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (slot.name_space != nullptr) {
    NvmeStatus status = permitted(slot);
    if (status != NvmeStatus::kSuccess) return answer(index, status);
    if (run_reservation(index)) return;
  }
  if (slot.work == Work::kCopy) {
    NvmeStatus status = check_copy(slot);
    if (status != NvmeStatus::kSuccess) return answer(index, status);
  }
  if (slot.scratch_bytes > 0 && slot.scratch == nullptr && !have_memory(index)) return;
  begin(index);
}

void TargetQueue::begin(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (slot.half != Half::kNone) return on_half_ready(index);
  bool scratch = slot.work == Work::kCompare || slot.work == Work::kVerify;
  slot.io.data = scratch ? slot.scratch : slot.data;
  if (is_stepwise(slot.work)) {
    bool more = false;
    NvmeStatus status = next_step(slot, &more);
    if (!more) return end_io(index, status);
  }
  submit_soon(index);
}

// Whoever writes holds the range, so that it does not fall between the halves of a Compare and
// Write of anybody.
void TargetQueue::submit_soon(uint16_t index) {
  TargetSlot& slot = slots_[index];
  slot.state = State::kReady;
  bool writes = slot.io.op != TargetOp::kRead && slot.io.op != TargetOp::kFlush;
  if (!writes || hold_range(slot, LockMode::kShared)) io_ready_.push(index);
}

// False: it waits for the range, until on_range_granted().
bool TargetQueue::hold_range(TargetSlot& slot, LockMode mode) {
  if (BB_MUTANT(kFusedUnlocked)) return true;
  slot.lock.offset_bytes = slot.io.offset_bytes;
  slot.lock.length_bytes = slot.io.length_bytes;
  slot.lock.mode = mode;
  if (slot.name_space->writes.acquire(slot.lock)) return true;
  slot.state = State::kLocked;
  return false;
}

void TargetQueue::on_range_granted(uint16_t index) {
  slots_[index].state = State::kReady;
  io_ready_.push(index);
  host_.wake();
}

// As the queue closes: of what the device does not have.
void TargetQueue::let_go_of_ranges() {
  for (TargetSlot& slot : slots_) {
    if (slot.state == State::kLocked) slot.name_space->writes.cancel(slot.lock);
    bool writes = slot.partner != kNoSlot && slots_[slot.partner].state == State::kDevice;
    if (slot.lock.held && slot.state != State::kDevice && !writes) {
      slot.name_space->writes.release(slot.lock);
    }
  }
}

NvmeStatus TargetQueue::next_step(TargetSlot& slot, bool* more) {
  if (slot.work == Work::kDiscards) return next_discard(slot, more);
  if (slot.work == Work::kCopy) return next_copy(slot, more);
  *more = next_flush(slot);
  return NvmeStatus::kSuccess;
}

bool TargetQueue::next_flush(TargetSlot& slot) {
  uint32_t after = slot.name_space == nullptr ? 0 : slot.name_space->nsid;
  slot.name_space = controller_->subsystem()->next(after + 1);
  return slot.name_space != nullptr;
}

// Sets up the next range that is not empty. Ranges that are not to be deallocated are hints, and so
// is all to a device that frees nothing.
NvmeStatus TargetQueue::next_discard(TargetSlot& slot, bool* more) {
  const Geometry& geometry = slot.name_space->geometry;
  *more = false;
  if ((slot.sqe.cdw11 & kDsmDeallocate) == 0 || !geometry.discard) return NvmeStatus::kSuccess;
  while (slot.range_next < slot.range_count) {
    const std::byte* range = slot.data + slot.range_next++ * kDsmRangeBytes;
    uint64_t blocks = load_le<uint32_t>(range + 4);
    uint64_t first = load_le<uint64_t>(range + 8);
    if (blocks == 0) continue;
    if (!geometry.holds(first, blocks)) return final_status(NvmeStatus::kLbaOutOfRange);
    slot.io = {.op = TargetOp::kDiscard,
               .offset_bytes = first * geometry.block_bytes,
               .length_bytes = blocks * geometry.block_bytes};
    *more = true;
    break;
  }
  return NvmeStatus::kSuccess;
}

// All of it before any of it is done: MSSRL, MCL, and that everything is within the namespace.
NvmeStatus TargetQueue::check_copy(TargetSlot& slot) {
  const Geometry& geometry = slot.name_space->geometry;
  uint64_t most = controller_->subsystem()->transfer_max_bytes() / geometry.block_bytes;
  uint64_t total = 0;
  for (uint16_t i = 0; i < slot.range_count; ++i) {
    BlockRange range = copy_range(slot, i);
    total += range.blocks;
    if (total > most) return final_status(NvmeStatus::kCommandSizeLimit);
    if (!geometry.holds(range.first, range.blocks)) {
      return final_status(NvmeStatus::kLbaOutOfRange);
    }
  }
  if (!geometry.holds(slot.sqe.first_block(), total)) {
    return final_status(NvmeStatus::kLbaOutOfRange);
  }
  slot.scratch_bytes = capacity_for(static_cast<uint32_t>(total * geometry.block_bytes));
  slot.io = {};
  return NvmeStatus::kSuccess;
}

// Everything is read before it is written, so that ranges may overlap their destination.
NvmeStatus TargetQueue::next_copy(TargetSlot& slot, bool* more) {
  const Geometry& geometry = slot.name_space->geometry;
  bool begins = slot.range_next == 0;
  bool wrote = slot.io.op == TargetOp::kWrite;
  std::byte* to = begins ? slot.scratch : slot.io.data + slot.io.length_bytes;
  *more = !wrote;
  if (slot.range_next < slot.range_count) {
    BlockRange range = copy_range(slot, slot.range_next++);
    slot.io = {.op = TargetOp::kRead,
               .offset_bytes = range.first * geometry.block_bytes,
               .length_bytes = range.blocks * geometry.block_bytes,
               .data = to};
  } else if (!wrote) {
    slot.io = {.op = TargetOp::kWrite,
               .fua = (slot.sqe.cdw12 & kForceUnitAccess) != 0 || slot.name_space->write_through,
               .offset_bytes = slot.sqe.first_block() * geometry.block_bytes,
               .length_bytes = static_cast<uint64_t>(to - slot.scratch),
               .data = slot.scratch};
  }
  return NvmeStatus::kSuccess;
}

std::optional<uint16_t> TargetQueue::next_io() {
  while (!closing_ && !io_ready_.empty()) {
    TargetSlot& slot = slots_[io_ready_.front()];
    if (slot.io.may_lend && must_wait_to_lend(slot)) break;
    uint16_t index = io_ready_.pop();
    Namespace& of = *slot.name_space;
    NvmeStatus now = of.removed ? no_namespace(of.nsid) : reaches(of);
    if (now == NvmeStatus::kSuccess) now = permitted(slot);
    if (now != NvmeStatus::kSuccess) {
      end_io(index, now);
      continue;
    }
    if (slot.io.may_lend && !host_.lends(of)) borrow_no_more(slot);
    if (slot.io.may_lend) lent_bytes_ += slot.length_bytes;
    slot.state = State::kDevice;
    ++of.io_in_flight;
    ++io_in_flight_;
    meter_.submit(slot.times, now_ns_);
    return index;
  }
  return std::nullopt;
}

bool TargetQueue::works_on(uint32_t ana_group) const {
  return std::any_of(slots_.begin(), slots_.end(), [ana_group](const TargetSlot& slot) {
    return slot.state == State::kDevice && slot.name_space->ana_group == ana_group;
  });
}

void TargetQueue::on_io_done(uint16_t index, Code code) {
  BB_CHECK(io_in_flight_ > 0, "an I/O ended that was never begun");
  TargetSlot& slot = slots_[index];
  BB_CHECK(slot.state == State::kDevice, "slot {} was not with the device", index);
  if (!slot.lent) left_device(slot);
  if (slot.io.may_lend && !slot.lent) lent_bytes_ -= slot.length_bytes;
  bool reads = slot.io.op == TargetOp::kRead;
  NvmeStatus status = nvme_status_of(code, reads);
  if (status == NvmeStatus::kSuccess && is_stepwise(slot.work) && !closing_) {
    bool more = false;
    status = next_step(slot, &more);
    if (more) {
      if (slot.lock.held) slot.name_space->writes.release(slot.lock);
      submit_soon(index);
      return note_aborted_back();
    }
  }
  if (status == NvmeStatus::kSuccess && slot.work == Work::kCompare &&
      std::memcmp(slot.data, slot.scratch, slot.length_bytes) != 0) {
    status = final_status(NvmeStatus::kCompareFailure);
  }
  end_io(index, status);
  if (!closing_) serve_waiting(0);
}

// The last I/O of a command has ended, or there is none to begin.
void TargetQueue::end_io(uint16_t index, NvmeStatus status) {
  TargetSlot& slot = slots_[index];
  if (slot.half != Half::kNone) return on_half_done(index, status);
  if (slot.lock.held) slot.name_space->writes.release(slot.lock);
  if (queue_id_ == 0 && controller_ != nullptr) {
    controller_->on_shutdown_flushed(status == NvmeStatus::kSuccess);
  }
  answer(index, status);
  note_aborted_back();
}

}  // namespace bb::io::nvme
