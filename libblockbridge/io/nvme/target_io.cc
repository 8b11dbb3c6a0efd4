// SPDX-License-Identifier: Apache-2.0
// Commands with the device: each is one I/O, or several one after the other.
#include <cstring>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

// More than one I/O, each set up when the one before has ended.
bool is_stepwise(const Sqe& sqe) {
  return sqe.opcode == static_cast<uint8_t>(IoOpcode::kDatasetManagement) || flushes_all(sqe);
}

}  // namespace

void TargetQueue::execute_io(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (slot.name_space != nullptr) {
    NvmeStatus status = permitted(slot);
    if (status != NvmeStatus::kSuccess) return answer(index, status);
    if (run_reservation(index)) return;
  }
  slot.state = State::kIo;
  slot.io.data = slot.data;
  if (static_cast<IoOpcode>(slot.sqe.opcode) == IoOpcode::kCompare) {
    slot.compare = host_.take_buffer(slot.capacity_bytes);
    slot.io.data = slot.compare;
  }
  if (is_stepwise(slot.sqe)) {
    bool more = false;
    NvmeStatus status = next_step(slot, &more);
    if (!more) return answer(index, status);
  }
  io_ready_.push(index);
}

NvmeStatus TargetQueue::next_step(TargetSlot& slot, bool* more) {
  if (slot.sqe.opcode != static_cast<uint8_t>(IoOpcode::kFlush)) {
    bool ended = slot.aborted && slot.dsm_next < slot.dsm_count;
    return ended ? final_status(NvmeStatus::kAbortedByPreempt) : next_discard(slot, more);
  }
  bool found = next_flush(slot);
  NvmeStatus status = found ? permitted(slot) : NvmeStatus::kSuccess;
  *more = found && status == NvmeStatus::kSuccess;
  return status;
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
  if ((slot.sqe.cdw11 & kDsmDeallocate) == 0 || !geometry.discard) slot.dsm_next = slot.dsm_count;
  while (slot.dsm_next < slot.dsm_count) {
    const std::byte* range = slot.data + slot.dsm_next++ * kDsmRangeBytes;
    uint64_t blocks = load_le<uint32_t>(range + 4);
    uint64_t first = load_le<uint64_t>(range + 8);
    if (first > geometry.block_count || blocks > geometry.block_count - first) {
      return final_status(NvmeStatus::kLbaOutOfRange);
    }
    if (blocks == 0) continue;
    slot.io = {.op = TargetOp::kDiscard,
               .offset_bytes = first * geometry.block_bytes,
               .length_bytes = blocks * geometry.block_bytes};
    *more = true;
    break;
  }
  return NvmeStatus::kSuccess;
}

std::optional<uint16_t> TargetQueue::next_io() {
  while (!closing_ && !io_ready_.empty()) {
    uint16_t index = io_ready_.pop();
    Namespace& of = *slots_[index].name_space;
    if (of.removed) {
      answer(index, no_namespace(of.nsid));
      continue;
    }
    ++of.io_in_flight;
    ++io_in_flight_;
    return index;
  }
  return std::nullopt;
}

void TargetQueue::on_io_done(uint16_t index, Code code) {
  BB_CHECK(io_in_flight_ > 0, "an I/O ended that was never begun");
  --io_in_flight_;
  TargetSlot& slot = slots_[index];
  BB_CHECK(slot.state == State::kIo, "slot {} was not with the device", index);
  --slot.name_space->io_in_flight;
  auto opcode = static_cast<IoOpcode>(slot.sqe.opcode);
  bool reads = opcode == IoOpcode::kRead || opcode == IoOpcode::kCompare;
  NvmeStatus status = nvme_status_of(code, reads);
  if (closing_) {
    if (io_in_flight_ == 0) core_.came_back(*this);
    answer(index, status);
    return note_aborted_back();
  }
  if (status == NvmeStatus::kSuccess && is_stepwise(slot.sqe)) {
    bool more = false;
    status = next_step(slot, &more);
    if (more) return io_ready_.push(index);
  }
  if (status == NvmeStatus::kSuccess && opcode == IoOpcode::kCompare &&
      std::memcmp(slot.data, slot.compare, slot.length_bytes) != 0) {
    status = final_status(NvmeStatus::kCompareFailure);
  }
  answer(index, status);
  note_aborted_back();
  serve_waiting(0);
}

}  // namespace bb::io::nvme
