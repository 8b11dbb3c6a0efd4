// SPDX-License-Identifier: Apache-2.0
// What the commands mean: the second half of TargetQueue.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

uint32_t TargetQueue::block_bytes() const {
  return controller_->subsystem()->config.geometry.block_bytes;
}

NvmeStatus TargetQueue::plan(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  bool fabrics = sqe.opcode == static_cast<uint8_t>(AdminOpcode::kFabrics);
  if (controller_ == nullptr) {
    if (!fabrics || sqe.fabrics_type() != FabricsType::kConnect) {
      return final_status(NvmeStatus::kCommandSequenceError);
    }
    if (sqe.sgl.length_bytes != kConnectDataBytes) {
      return final_status(NvmeStatus::kSglDataLengthInvalid);
    }
    return plan_data(slot, false, kConnectDataBytes);
  }
  if ((sqe.flags & kFlagFuseMask) != 0) return final_status(NvmeStatus::kInvalidField);
  if (!fabrics) {
    if ((sqe.flags & kFlagPsdtMask) != kFlagSgl) return final_status(NvmeStatus::kInvalidField);
    if (!controller_->ready()) return final_status(NvmeStatus::kCommandSequenceError);
  }
  return queue_id_ == 0 ? plan_admin(slot) : plan_io(slot);
}

// The command moves `length_bytes`; does its SGL say the same?
NvmeStatus TargetQueue::plan_data(TargetSlot& slot, bool to_host, uint32_t length_bytes) {
  const Sgl& sgl = slot.sqe.sgl;
  if (sgl.length_bytes != length_bytes) return final_status(NvmeStatus::kSglDataLengthInvalid);
  slot.to_host = to_host;
  slot.length_bytes = length_bytes;
  if (length_bytes == 0) return NvmeStatus::kSuccess;
  if (length_bytes > core_.limits().transfer_bytes) {
    return final_status(NvmeStatus::kInvalidField);
  }
  if (sgl.type == kSglTransportData) return NvmeStatus::kSuccess;
  if (sgl.type != kSglInCapsule || to_host) return final_status(NvmeStatus::kSglTypeInvalid);
  if (sgl.address != 0) return final_status(NvmeStatus::kSglOffsetInvalid);
  slot.in_capsule = true;
  return NvmeStatus::kSuccess;
}

NvmeStatus TargetQueue::plan_admin(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  auto opcode = static_cast<AdminOpcode>(sqe.opcode);
  switch (opcode) {
    case AdminOpcode::kFabrics: {
      FabricsType type = sqe.fabrics_type();
      if (type == FabricsType::kConnect) return final_status(NvmeStatus::kCommandSequenceError);
      if (type == FabricsType::kPropertyGet || type == FabricsType::kPropertySet) {
        return NvmeStatus::kSuccess;
      }
      return final_status(NvmeStatus::kInvalidOpcode);
    }
    case AdminOpcode::kIdentify:
      if (sqe.sgl.length_bytes != kIdentifyBytes) {
        return final_status(NvmeStatus::kSglDataLengthInvalid);
      }
      return plan_data(slot, true, kIdentifyBytes);
    case AdminOpcode::kGetLogPage:
    case AdminOpcode::kGetFeatures:
      return plan_data(slot, true, sqe.sgl.length_bytes);
    case AdminOpcode::kSetFeatures:
      return plan_data(slot, false, sqe.sgl.length_bytes);
    case AdminOpcode::kAbort:
    case AdminOpcode::kAsyncEventRequest:
    case AdminOpcode::kKeepAlive:
      return NvmeStatus::kSuccess;
  }
  return final_status(NvmeStatus::kInvalidOpcode);
}

NvmeStatus TargetQueue::plan_io(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  auto opcode = static_cast<IoOpcode>(sqe.opcode);
  bool all = sqe.nsid == kNsidAll && opcode == IoOpcode::kFlush;
  if (sqe.nsid != 1 && !all) return final_status(NvmeStatus::kInvalidNamespace);
  switch (opcode) {
    case IoOpcode::kFlush:
      slot.io = {.op = TargetOp::kFlush};
      return NvmeStatus::kSuccess;
    case IoOpcode::kRead:
    case IoOpcode::kWrite:
    case IoOpcode::kCompare:
    case IoOpcode::kWriteZeroes:
      return plan_range(slot);
    case IoOpcode::kDatasetManagement:
      return plan_dsm(slot);
  }
  return final_status(NvmeStatus::kInvalidOpcode);
}

NvmeStatus TargetQueue::plan_range(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  const Geometry& geometry = controller_->subsystem()->config.geometry;
  auto opcode = static_cast<IoOpcode>(sqe.opcode);
  bool changes = opcode == IoOpcode::kWrite || opcode == IoOpcode::kWriteZeroes;
  if (changes && geometry.read_only) return final_status(NvmeStatus::kNamespaceWriteProtected);
  uint64_t first = sqe.first_block();
  uint64_t blocks = sqe.block_count();
  if (first >= geometry.block_count || blocks > geometry.block_count - first) {
    return final_status(NvmeStatus::kLbaOutOfRange);
  }
  slot.io = {.op = TargetOp::kRead,
             .fua = (sqe.cdw12 & kForceUnitAccess) != 0,
             .offset_bytes = first * geometry.block_bytes,
             .length_bytes = blocks * geometry.block_bytes};
  if (opcode == IoOpcode::kWriteZeroes) {
    slot.io.op = TargetOp::kWriteZeroes;
    slot.io.may_discard = (sqe.cdw12 & kDeallocate) != 0;
    return NvmeStatus::kSuccess;
  }
  if (slot.io.length_bytes > controller_->subsystem()->transfer_max_bytes(core_.limits())) {
    return final_status(NvmeStatus::kInvalidField);
  }
  if (opcode == IoOpcode::kWrite) slot.io.op = TargetOp::kWrite;
  return plan_data(slot, opcode == IoOpcode::kRead, static_cast<uint32_t>(slot.io.length_bytes));
}

NvmeStatus TargetQueue::plan_dsm(TargetSlot& slot) {
  const Geometry& geometry = controller_->subsystem()->config.geometry;
  if (!geometry.discard) return final_status(NvmeStatus::kInvalidOpcode);
  if (geometry.read_only) return final_status(NvmeStatus::kNamespaceWriteProtected);
  slot.dsm_next = 0;
  slot.dsm_count = static_cast<uint16_t>((slot.sqe.cdw10 & 0xff) + 1);
  // A host may send a whole page for a few ranges.
  uint32_t length = slot.sqe.sgl.length_bytes;
  if (length < slot.dsm_count * kDsmRangeBytes || length > kDsmRangesMax * kDsmRangeBytes) {
    return final_status(NvmeStatus::kSglDataLengthInvalid);
  }
  return plan_data(slot, false, length);
}

void TargetQueue::execute(uint16_t index, uint64_t now_ns) {
  TargetSlot& slot = slots_[index];
  if (controller_ != nullptr && queue_id_ != 0) return execute_io(index);
  bool event = controller_ != nullptr &&
               slot.sqe.opcode == static_cast<uint8_t>(AdminOpcode::kAsyncEventRequest);
  if (event) {
    if (events_.size() >= core_.limits().async_events) {
      return answer(index, final_status(NvmeStatus::kAsyncEventLimitExceeded));
    }
    slot.state = State::kEvent;
    events_.push_back(index);
    return deliver_events();
  }
  if (controller_ == nullptr) return run_connect(index, now_ns);
  AdminReply reply = run_admin(slot, now_ns);
  if (slot.to_host && reply.status == NvmeStatus::kSuccess && slot.length_bytes > 0) {
    size_t have = std::min<size_t>(reply.data.size(), slot.length_bytes);
    if (have > 0) std::memcpy(slot.data, reply.data.data(), have);
    std::memset(slot.data + have, 0, slot.length_bytes - have);
  }
  answer(index, reply.status, reply.result);
  deliver_events();
}

void TargetQueue::run_connect(uint16_t index, uint64_t now_ns) {
  TargetSlot& slot = slots_[index];
  ConnectCommand command = ConnectCommand::decode(slot.sqe);
  ConnectAnswer made = core_.connect(*this, command, {slot.data, slot.length_bytes}, now_ns);
  if (made.later) {
    slot.state = State::kConnecting;
    connecting_ = index;
    return;
  }
  if (made.controller != nullptr) {
    controller_ = made.controller;
    queue_id_ = command.queue_id;
    depth_ = static_cast<uint16_t>(command.queue_size + 1);
    sq_size_ = depth_;
    flow_control_ = (command.attributes & kConnectNoFlowControl) == 0;
  }
  answer(index, made.status, made.result);
}

void TargetQueue::retry_connect_soon() {
  retry_connect_ = true;
  host_.wake();
}

void TargetQueue::retry_connect(uint64_t now_ns) {
  if (!std::exchange(retry_connect_, false) || closing_) return;
  uint16_t index = *connecting_;
  connecting_.reset();
  run_connect(index, now_ns);
}

AdminReply TargetQueue::run_admin(TargetSlot& slot, uint64_t now_ns) {
  const Sqe& sqe = slot.sqe;
  switch (static_cast<AdminOpcode>(sqe.opcode)) {
    case AdminOpcode::kFabrics:
      return sqe.fabrics_type() == FabricsType::kPropertyGet ? controller_->property_get(sqe)
                                                             : controller_->property_set(sqe);
    case AdminOpcode::kIdentify:
      return controller_->identify(sqe);
    case AdminOpcode::kGetLogPage:
      return controller_->get_log_page(sqe);
    case AdminOpcode::kGetFeatures:
      return controller_->get_features(sqe);
    case AdminOpcode::kSetFeatures:
      return controller_->set_features(sqe);
    case AdminOpcode::kAbort:
      return run_abort(sqe);
    case AdminOpcode::kKeepAlive:
      controller_->heard(now_ns);
      return {};
    case AdminOpcode::kAsyncEventRequest:
      break;
  }
  return {.status = final_status(NvmeStatus::kInvalidOpcode)};
}

// Only an asynchronous event request waits long enough to be worth it; the rest completes soon.
AdminReply TargetQueue::run_abort(const Sqe& sqe) {
  auto queue = static_cast<uint16_t>(sqe.cdw10);
  auto command = static_cast<uint16_t>(sqe.cdw10 >> 16);
  auto found = std::find_if(events_.begin(), events_.end(), [&](uint16_t index) {
    return slots_[index].sqe.command_id == command;
  });
  if (queue != 0 || found == events_.end()) return {.result = 1};  // not aborted
  uint16_t index = *found;
  events_.erase(found);
  answer(index, NvmeStatus::kAbortRequested);
  return {};
}

void TargetQueue::abort_events() {
  std::vector<uint16_t> waiting = std::exchange(events_, {});
  for (uint16_t index : waiting) answer(index, NvmeStatus::kAbortRequested);
  if (!waiting.empty()) host_.wake();
}

void TargetQueue::deliver_events() {
  uint32_t event = 0;
  bool any = false;
  while (controller_ != nullptr && !events_.empty() && controller_->take_event(&event)) {
    uint16_t index = events_.front();
    events_.erase(events_.begin());
    answer(index, NvmeStatus::kSuccess, event);
    any = true;
  }
  if (any) host_.wake();
}

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
