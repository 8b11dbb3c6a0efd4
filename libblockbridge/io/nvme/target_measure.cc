// SPDX-License-Identifier: Apache-2.0
// What a queue's commands were like: counted when their answers have left.
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

IoKind kind_of(uint8_t opcode) {
  if (opcode == static_cast<uint8_t>(IoOpcode::kRead)) return IoKind::kRead;
  if (opcode == static_cast<uint8_t>(IoOpcode::kWrite)) return IoKind::kWrite;
  return IoKind::kOther;
}

std::string_view name_of(uint8_t opcode) {
  switch (static_cast<IoOpcode>(opcode)) {
    case IoOpcode::kRead:
      return "read";
    case IoOpcode::kWrite:
      return "write";
    case IoOpcode::kFlush:
      return "flush";
    case IoOpcode::kCompare:
      return "compare";
    case IoOpcode::kWriteZeroes:
      return "write zeroes";
    case IoOpcode::kDatasetManagement:
      return "deallocate";
    case IoOpcode::kVerify:
      return "verify";
    case IoOpcode::kReservationRegister:
      return "reservation register";
    case IoOpcode::kReservationReport:
      return "reservation report";
    case IoOpcode::kReservationAcquire:
      return "reservation acquire";
    case IoOpcode::kReservationRelease:
      return "reservation release";
    case IoOpcode::kCopy:
      return "copy";
  }
  return "another command";
}

}  // namespace

// Admin commands and Connect are rare, and some wait for hours by design: they are not measured.
void TargetQueue::measure(const TargetSlot& slot) {
  constexpr auto kFabrics = static_cast<uint8_t>(AdminOpcode::kFabrics);
  IoKind kind = kind_of(slot.sqe.opcode);
  if (queue_id_ == 0 || (kind == IoKind::kOther && slot.sqe.opcode == kFabrics)) return;
  bool ok = slot.status == NvmeStatus::kSuccess;
  if (meter_.end(kind, slot.length_bytes, ok, slot.times, now_ns_, core_.recorder)) [[unlikely]]
    record(slot);
}

void TargetQueue::record(const TargetSlot& slot) {
  FlightRecord record = QueueMeter::record(slot.times, now_ns_);
  record.op = name_of(slot.sqe.opcode);
  record.nsid = slot.sqe.nsid;
  record.offset_bytes = slot.io.offset_bytes;
  record.length_bytes = slot.io.length_bytes;
  record.failed = slot.status != NvmeStatus::kSuccess;
  record.status = record.failed ? nvme_status_text(slot.status) : "ok";
  if (controller_ != nullptr) {
    record.object = controller_->nqn();
    record.host = controller_->host().host_nqn;
  }
  core_.recorder.add(std::move(record));
}

}  // namespace bb::io::nvme
