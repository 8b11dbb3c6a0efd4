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
  bool fused = (sqe.flags & kFlagFuseMask) != 0;
  if (fused && queue_id_ == 0) return final_status(NvmeStatus::kInvalidField);
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
  if (slot.name_space == nullptr && opcode == IoOpcode::kFlush && sqe.nsid == kNsidAll) {
    slot.work = Work::kFlushes;
    slot.io = {.op = TargetOp::kFlush};
    return NvmeStatus::kSuccess;
  }
  if (slot.name_space == nullptr) return no_namespace(sqe.nsid);
  NvmeStatus reached = reaches(*slot.name_space);
  if (reached != NvmeStatus::kSuccess) return reached;
  slot.work = Work::kOne;
  switch (opcode) {
    case IoOpcode::kFlush:
      slot.io = {.op = TargetOp::kFlush};
      return NvmeStatus::kSuccess;
    case IoOpcode::kRead:
    case IoOpcode::kWrite:
    case IoOpcode::kCompare:
    case IoOpcode::kWriteZeroes:
    case IoOpcode::kVerify:
      return plan_range(slot);
    case IoOpcode::kDatasetManagement:
      return plan_dsm(slot);
    case IoOpcode::kReservationRegister:
    case IoOpcode::kReservationReport:
    case IoOpcode::kReservationAcquire:
    case IoOpcode::kReservationRelease:
      return plan_reservation(slot);
    case IoOpcode::kCopy:
      return plan_copy(slot);
  }
  return final_status(NvmeStatus::kInvalidOpcode);  // Write Uncorrectable among them
}

// NVMe base 2.0, 3.2.1: an NSID is invalid, or it is valid and not active.
NvmeStatus TargetQueue::no_namespace(uint32_t nsid) const {
  bool valid = nsid > 0 && nsid <= core_.limits().namespaces;
  return final_status(valid ? NvmeStatus::kInvalidField : NvmeStatus::kInvalidNamespace);
}

// NVMe base 2.0, 8.1.3: what I/O commands get while a group is not accessible by this port. Another
// port may well do it.
NvmeStatus TargetQueue::reaches(const Namespace& name_space) const {
  if (ana_->all_usable()) return NvmeStatus::kSuccess;
  switch (ana_->state(name_space.ana_group)) {
    case AnaState::kOptimized:
    case AnaState::kNonOptimized:
      break;
    case AnaState::kInaccessible:
      return NvmeStatus::kAnaInaccessible;
    case AnaState::kPersistentLoss:
      return NvmeStatus::kAnaPersistentLoss;
    case AnaState::kChange:
      return NvmeStatus::kAnaTransition;
  }
  return NvmeStatus::kSuccess;
}

// NVM command set 1.0, 3.2: one range in CDW10 to CDW12, within the namespace and MDTS; Verify
// within VSL, which is the same. Write Zeroes may name what its count can.
NvmeStatus TargetQueue::plan_range(TargetSlot& slot) {
  const Sqe& sqe = slot.sqe;
  const Geometry& geometry = slot.name_space->geometry;
  auto opcode = static_cast<IoOpcode>(sqe.opcode);
  bool changes = opcode == IoOpcode::kWrite || opcode == IoOpcode::kWriteZeroes;
  if (changes && geometry.read_only) return final_status(NvmeStatus::kNamespaceWriteProtected);
  uint64_t first = sqe.first_block();
  uint64_t blocks = sqe.block_count();
  if (!geometry.holds(first, blocks)) return final_status(NvmeStatus::kLbaOutOfRange);
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
  auto length_bytes = static_cast<uint32_t>(slot.io.length_bytes);
  if (opcode == IoOpcode::kWrite) slot.io.op = TargetOp::kWrite;
  if (opcode == IoOpcode::kCompare) slot.work = Work::kCompare;
  if (opcode == IoOpcode::kVerify) slot.work = Work::kVerify;
  if (slot.work != Work::kOne) slot.scratch_bytes = capacity_for(length_bytes);
  if (opcode == IoOpcode::kVerify) return NvmeStatus::kSuccess;
  return plan_data(slot, opcode == IoOpcode::kRead, length_bytes);
}

NvmeStatus TargetQueue::plan_dsm(TargetSlot& slot) {
  const Geometry& geometry = slot.name_space->geometry;
  if (!geometry.discard && !controller_->subsystem()->discards()) {
    return final_status(NvmeStatus::kInvalidOpcode);
  }
  if (geometry.read_only) return final_status(NvmeStatus::kNamespaceWriteProtected);
  slot.work = Work::kDiscards;
  slot.range_count = static_cast<uint16_t>((slot.sqe.cdw10 & 0xff) + 1);
  // A host may send a whole page for a few ranges.
  uint32_t length = slot.sqe.sgl.length_bytes;
  if (length < slot.range_count * kDsmRangeBytes || length > kDsmRangesMax * kDsmRangeBytes) {
    return final_status(NvmeStatus::kSglDataLengthInvalid);
  }
  return plan_data(slot, false, length);
}

// NVM command set 1.0, 3.2.2: ranges of format 0, no more than MSRC says.
NvmeStatus TargetQueue::plan_copy(TargetSlot& slot) {
  if (slot.name_space->geometry.read_only) {
    return final_status(NvmeStatus::kNamespaceWriteProtected);
  }
  if (((slot.sqe.cdw12 >> 8) & 0xf) != 0) return final_status(NvmeStatus::kInvalidField);
  slot.work = Work::kCopy;
  slot.range_count = static_cast<uint16_t>((slot.sqe.cdw12 & 0xff) + 1);
  uint32_t length = slot.sqe.sgl.length_bytes;
  if (length < slot.range_count * kCopyRangeBytes || length > 256 * kCopyRangeBytes) {
    return final_status(NvmeStatus::kSglDataLengthInvalid);
  }
  if (slot.range_count > kCopyRangesMax) return final_status(NvmeStatus::kCommandSizeLimit);
  return plan_data(slot, false, length);
}

}  // namespace bb::io::nvme
