// SPDX-License-Identifier: Apache-2.0
// A target's side of authentication: the two commands that carry its messages (base 2.0 §3.3,
// §6.1 and §6.2), and what waits for them.
#include <algorithm>
#include <cstring>

#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

bool TargetQueue::is_auth(const Sqe& sqe) {
  return sqe.opcode == static_cast<uint8_t>(AdminOpcode::kFabrics) &&
         (sqe.fabrics_type() == FabricsType::kAuthSend ||
          sqe.fabrics_type() == FabricsType::kAuthReceive);
}

NvmeStatus TargetQueue::plan_auth(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  if (auth_ == nullptr) return final_status(NvmeStatus::kInvalidOpcode);
  if ((sqe.cdw10 & ~0xffu) != kAuthProtocol) return final_status(NvmeStatus::kInvalidField);
  uint32_t length = sqe.cdw11;
  if (length == 0 || length > kAuthMessageMaxBytes) {
    return final_status(NvmeStatus::kInvalidField);
  }
  return plan_data(slot, sqe.fabrics_type() == FabricsType::kAuthReceive, length);
}

void TargetQueue::run_auth(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (authenticating_ || auth_->failed()) {  // one message at a time
    return answer(index, final_status(NvmeStatus::kCommandSequenceError));
  }
  if (slot.sqe.fabrics_type() == FabricsType::kAuthSend) {
    auth_->on_send({slot.data, slot.length_bytes});
    if (DhExchange* exchange = auth_->exchange()) {
      slot.state = State::kAuthenticating;
      authenticating_ = index;
      return host_.compute(*exchange);
    }
    return end_auth(index);
  }
  std::vector<std::byte> message = auth_->on_receive();
  if (message.empty() || message.size() > slot.length_bytes) {
    return answer(index, final_status(message.empty() ? NvmeStatus::kCommandSequenceError
                                                      : NvmeStatus::kInvalidField));
  }
  std::memcpy(slot.data, message.data(), message.size());
  std::memset(slot.data + message.size(), 0, slot.length_bytes - message.size());
  end_auth(index);
}

void TargetQueue::on_computed() {
  uint16_t index = *std::exchange(authenticating_, std::nullopt);
  if (closing_) return answer(index, NvmeStatus::kAbortedQueueDeleted);  // perhaps not computed
  auth_->on_computed();
  end_auth(index);
}

// The message has been dealt with. A host that has just proved itself may first have to wait until
// what it had here before has ended.
void TargetQueue::end_auth(uint16_t index) {
  if (!authenticated_ && auth_->authenticated()) {
    // Two may have come with one identifier, or for one queue, while neither had proved itself. Who
    // is late stays what it was, and goes when the handshake has taken too long.
    if (queue_id_ == 0 && core_.is_anothers(*this)) {
      return answer(index, final_status(NvmeStatus::kConnectInvalidHost));
    }
    if (queue_id_ != 0 && !core_.take_place(*this)) {
      return answer(index, final_status(NvmeStatus::kCommandSequenceError));
    }
    if (queue_id_ == 0 && !core_.take_over(*this)) {
      slots_[index].state = State::kConnecting;
      connecting_ = index;
      return;
    }
    authenticated_ = true;
  }
  answer(index, NvmeStatus::kSuccess);
}

}  // namespace bb::io::nvme
