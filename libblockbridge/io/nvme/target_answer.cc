// SPDX-License-Identifier: Apache-2.0
// What a queue sends: answers, R2Ts, the handshake and its end.
#include "base/check.h"
#include "base/crc32c.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

void TargetQueue::answer(uint16_t index, NvmeStatus status, uint64_t result) {
  TargetSlot& slot = slots_[index];
  BB_CHECK(slot.state != State::kFree && slot.state != State::kAnswering &&
               slot.state != State::kLeaving,
           "a command was answered twice");
  answered_ = true;
  slot.status = status;
  slot.result = result;
  slot.state = State::kAnswering;
  slot.send_data = status == NvmeStatus::kSuccess && slot.to_host && slot.length_bytes > 0;
  if (closing_ && slot.lent) slot.send_data = false;
  count(slot);
  if (slot.lent && slot.send_data && waits_for_peer_) keep_copy(slot);  // lent behind a write
  if (!slot.lent) slot.name_space.reset();
  if (slot.half != Half::kNone) on_half_answered(index);
  if (!slot.send_data) give_data(slot);
  encode_answer(slot);
  meter_.answer(slot.times);
  if (!closing_) to_send_.push(index);
}

void TargetQueue::encode_answer(TargetSlot& slot) {
  size_t at = 0;
  bool response = true;
  slot.head_bytes = slot.send_data ? slot.head_bytes : uint8_t{0};
  if (slot.send_data) {
    response = flow_control_ || slot.result != 0;
    DataHeader header{.command_id = slot.sqe.command_id,
                      .length_bytes = slot.length_bytes,
                      .last = true,
                      .success = !response};
    slot.head_bytes = static_cast<uint8_t>(encode_c2h_data(slot.head, header, out_format_));
    if (out_format_.digests.data) {
      store_digest(slot.tail.data(), crc32c({slot.data, slot.length_bytes}));
      at = kDigestBytes;
    }
  }
  if (response) {
    std::byte entry[kCqeBytes];
    Cqe{.result = slot.result,
        .sq_head = flow_control_ ? sq_head_ : uint16_t{0xffff},
        .sq_id = queue_id_,
        .command_id = slot.sqe.command_id,
        .status = slot.status}
        .encode(entry);
    at += encode_capsule_resp(Bytes(slot.tail).subspan(at), entry, out_format_);
  }
  slot.tail_bytes = static_cast<uint8_t>(at);
}

void TargetQueue::count(const TargetSlot& slot) {
  if (controller_ == nullptr) return;
  if (slot.status != NvmeStatus::kSuccess) {
    bool ranged = queue_id_ != 0;
    controller_->note_error({.queue_id = queue_id_,
                             .command_id = slot.sqe.command_id,
                             .status = slot.status,
                             .first_block = ranged ? slot.sqe.first_block() : 0,
                             .nsid = slot.sqe.nsid});
    return;
  }
  if (queue_id_ == 0) return;
  auto opcode = static_cast<IoOpcode>(slot.sqe.opcode);
  bool reads = opcode == IoOpcode::kRead || opcode == IoOpcode::kCompare;
  if (!reads && opcode != IoOpcode::kWrite) return;
  for (Counters* to : {&controller_->counters, &slot.name_space->counters}) {
    ++(reads ? to->reads : to->writes);
    (reads ? to->read_bytes : to->written_bytes) += slot.length_bytes;
  }
}

std::vector<iovec>* TargetQueue::outgoing() {
  meter_.stamp(now_ns_);
  if (sending_) return nullptr;
  iov_.clear();
  being_sent_.clear();
  if (hello_state_ == Control::kQueued) {
    hello_state_ = Control::kDone;
    iov_.push_back({.iov_base = hello_.data(), .iov_len = hello_.size()});
  }
  if (term_state_ == Control::kQueued) {
    term_state_ = Control::kSending;
    iov_.push_back({.iov_base = term_.data(), .iov_len = term_bytes_});
  }
  while (!to_send_.empty() && !closing_) {
    uint16_t index = to_send_.pop();
    TargetSlot& slot = slots_[index];
    if (slot.head_bytes > 0) {
      iov_.push_back({.iov_base = slot.head.data(), .iov_len = slot.head_bytes});
    }
    if (slot.state != State::kAnswering) {  // an R2T: only now may its data come
      slot.r2t_sent = true;
      continue;
    }
    if (slot.send_data) iov_.push_back({.iov_base = slot.data, .iov_len = slot.length_bytes});
    if (slot.tail_bytes > 0) {
      iov_.push_back({.iov_base = slot.tail.data(), .iov_len = slot.tail_bytes});
    }
    being_sent_.push_back(index);
    slot.state = State::kLeaving;
    --outstanding_;
    if (slot.id_noted) --ids_[slot.sqe.command_id & 0xff];
    slot.id_noted = false;
  }
  if (iov_.empty()) return nullptr;
  sending_ = true;
  return &iov_;
}

void TargetQueue::on_sent() {
  BB_CHECK(sending_, "sent what was not being sent");
  sending_ = false;
  waits_for_peer_ = false;
  if (term_state_ == Control::kSending) term_state_ = Control::kDone;
  for (uint16_t index : being_sent_) {
    measure(slots_[index]);
    free_slot(index);
  }
  meter_.end_batch();
  being_sent_.clear();
  if (auth_ != nullptr && auth_->failed() && to_send_.empty()) {
    return close(("authentication: " + auth_->reason()).c_str());
  }
  serve_waiting(0);
}

void TargetQueue::free_slot(uint16_t index) {
  give_data(slots_[index]);
  slots_[index].state = State::kFree;
  free_.push_back(index);
}

}  // namespace bb::io::nvme
