// SPDX-License-Identifier: Apache-2.0
// What a command wants, found out before its data is fetched; whether it may have it.
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

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
  if (is_auth(sqe)) return plan_auth(slot);
  if (!authenticated_) return final_status(NvmeStatus::kAuthenticationRequired);
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
  if (queue_id_ != 0 && length_bytes > core_.limits().capsule_data_bytes) {
    return final_status(NvmeStatus::kSglDataLengthInvalid);
  }
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
  slot.name_space = controller_->subsystem()->find(sqe.nsid);
  if (slot.name_space == nullptr && !flushes_all(sqe)) return no_namespace(sqe.nsid);
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
    case IoOpcode::kReservationRegister:
    case IoOpcode::kReservationReport:
    case IoOpcode::kReservationAcquire:
    case IoOpcode::kReservationRelease:
      return plan_reservation(slot);
  }
  return final_status(NvmeStatus::kInvalidOpcode);
}

// NVMe base 2.0, 3.2.1: an NSID is invalid, or it is valid and not active.
NvmeStatus TargetQueue::no_namespace(uint32_t nsid) const {
  bool valid = nsid > 0 && nsid <= core_.limits().namespaces;
  return final_status(valid ? NvmeStatus::kInvalidField : NvmeStatus::kInvalidNamespace);
}

NvmeStatus TargetQueue::plan_range(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  const Geometry& geometry = slot.name_space->geometry;
  auto opcode = static_cast<IoOpcode>(sqe.opcode);
  bool changes = opcode == IoOpcode::kWrite || opcode == IoOpcode::kWriteZeroes;
  if (changes && geometry.read_only) return final_status(NvmeStatus::kNamespaceWriteProtected);
  uint64_t first = sqe.first_block();
  uint64_t blocks = sqe.block_count();
  if (first >= geometry.block_count || blocks > geometry.block_count - first) {
    return final_status(NvmeStatus::kLbaOutOfRange);
  }
  slot.io = {.op = TargetOp::kRead,
             .fua = (sqe.cdw12 & kForceUnitAccess) != 0 || slot.name_space->write_through,
             .offset_bytes = first * geometry.block_bytes,
             .length_bytes = blocks * geometry.block_bytes};
  if (opcode == IoOpcode::kWriteZeroes) {
    slot.io.op = TargetOp::kWriteZeroes;
    slot.io.may_discard = (sqe.cdw12 & kDeallocate) != 0;
    return NvmeStatus::kSuccess;
  }
  if (slot.io.length_bytes > controller_->subsystem()->transfer_max_bytes()) {
    return final_status(NvmeStatus::kInvalidField);
  }
  if (opcode == IoOpcode::kWrite) slot.io.op = TargetOp::kWrite;
  return plan_data(slot, opcode == IoOpcode::kRead, static_cast<uint32_t>(slot.io.length_bytes));
}

NvmeStatus TargetQueue::plan_dsm(TargetSlot& slot) {
  const Geometry& geometry = slot.name_space->geometry;
  if (!geometry.discard && !controller_->subsystem()->discards()) {
    return final_status(NvmeStatus::kInvalidOpcode);
  }
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

}  // namespace bb::io::nvme
