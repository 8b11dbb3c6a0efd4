// SPDX-License-Identifier: Apache-2.0
// Commands with the device: each is one I/O, or several one after the other.
#include <cstring>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

void TargetQueue::execute_io(uint16_t index) {
  TargetSlot& slot = slots_[index];
  slot.state = State::kIo;
  slot.io.data = slot.data;
  auto opcode = static_cast<IoOpcode>(slot.sqe.opcode);
  if (opcode == IoOpcode::kCompare) {
    slot.compare = host_.take_buffer(slot.capacity_bytes);
    slot.io.data = slot.compare;
  }
  if (opcode == IoOpcode::kDatasetManagement) {
    NvmeStatus status = next_discard(slot);
    bool nothing = slot.dsm_next == slot.dsm_count && slot.io.length_bytes == 0;
    if (status != NvmeStatus::kSuccess || nothing) return answer(index, status);
  }
  io_ready_.push(index);
}

// Sets up the next range that is not empty. Ranges that are not to be deallocated are hints.
NvmeStatus TargetQueue::next_discard(TargetSlot& slot) {
  const Geometry& geometry = controller_->subsystem()->config.geometry;
  slot.io = {.op = TargetOp::kDiscard};
  if ((slot.sqe.cdw11 & kDsmDeallocate) == 0) slot.dsm_next = slot.dsm_count;
  while (slot.dsm_next < slot.dsm_count) {
    const std::byte* range = slot.data + slot.dsm_next++ * kDsmRangeBytes;
    uint64_t blocks = load_le<uint32_t>(range + 4);
    uint64_t first = load_le<uint64_t>(range + 8);
    if (first > geometry.block_count || blocks > geometry.block_count - first) {
      return final_status(NvmeStatus::kLbaOutOfRange);
    }
    if (blocks == 0) continue;
    slot.io.offset_bytes = first * geometry.block_bytes;
    slot.io.length_bytes = blocks * geometry.block_bytes;
    break;
  }
  return NvmeStatus::kSuccess;
}

std::optional<uint16_t> TargetQueue::next_io() {
  if (closing_ || io_ready_.empty()) return std::nullopt;
  ++io_in_flight_;
  return io_ready_.pop();
}

void TargetQueue::on_io_done(uint16_t index, Code code) {
  BB_CHECK(io_in_flight_ > 0, "an I/O ended that was never begun");
  --io_in_flight_;
  TargetSlot& slot = slots_[index];
  BB_CHECK(slot.state == State::kIo, "slot {} was not with the device", index);
  auto opcode = static_cast<IoOpcode>(slot.sqe.opcode);
  bool reads = opcode == IoOpcode::kRead || opcode == IoOpcode::kCompare;
  NvmeStatus status = nvme_status_of(code, reads);
  if (closing_) {
    if (io_in_flight_ == 0) core_.came_back(*this);
    return answer(index, status);
  }
  if (status == NvmeStatus::kSuccess && opcode == IoOpcode::kDatasetManagement) {
    status = next_discard(slot);
    if (status == NvmeStatus::kSuccess && slot.io.length_bytes > 0) return io_ready_.push(index);
  }
  if (status == NvmeStatus::kSuccess && opcode == IoOpcode::kCompare &&
      std::memcmp(slot.data, slot.compare, slot.length_bytes) != 0) {
    status = final_status(NvmeStatus::kCompareFailure);
  }
  answer(index, status);
  serve_waiting(0);
}

}  // namespace bb::io::nvme
