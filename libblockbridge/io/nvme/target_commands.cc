// SPDX-License-Identifier: Apache-2.0
// Commands that no device is needed for: Connect, the admin commands, events.
#include <algorithm>
#include <cstring>

#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

void TargetQueue::execute(uint16_t index, uint64_t now_ns) {
  TargetSlot& slot = slots_[index];
  if (controller_ != nullptr && is_auth(slot.sqe)) return run_auth(index);
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
  if (run_persistence(index)) return;
  slot.state = State::kRunning;
  AdminReply reply = run_admin(slot, now_ns);
  if (reply.flush_first) {
    slot.work = Work::kFlushes;
    slot.io = {.op = TargetOp::kFlush};
    return begin(index);
  }
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
  if (made.home != 0) {
    // There it would be answered again.
    if (answered_) return answer(index, final_status(NvmeStatus::kCommandSequenceError));
    home_ = made.home;
    return;
  }
  if (made.later) {
    slot.state = State::kConnecting;
    connecting_ = index;
    return;
  }
  if (made.controller != nullptr) {
    controller_ = made.controller;
    queue_id_ = command.queue_id;
    accept_depth(size_t{command.queue_size} + 1);
    sq_size_ = depth_;
    flow_control_ = (command.attributes & kConnectNoFlowControl) == 0;
    auth_ = std::move(made.auth);
    authenticated_ = auth_ == nullptr;
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
  if (controller_ != nullptr) return end_auth(index);
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

// NVMe base 2.0, 5.1: bit 0 of the result says that it was not aborted.
AdminReply TargetQueue::run_abort(const Sqe& sqe) {
  auto queue = static_cast<uint16_t>(sqe.cdw10);
  auto command = static_cast<uint16_t>(sqe.cdw10 >> 16);
  TargetQueue* of = queue < controller_->queues.size() ? controller_->queues[queue] : nullptr;
  bool aborted = of != nullptr && of->abort(command);
  return {.result = aborted ? 0u : 1u};
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

}  // namespace bb::io::nvme
