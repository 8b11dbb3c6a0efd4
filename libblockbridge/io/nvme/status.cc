// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/status.h"

#include <iterator>

namespace bb::io::nvme {
namespace {

struct Row {
  NvmeStatus status;
  Code code;
  const char* text;
};

constexpr Row kRows[] = {
    {NvmeStatus::kSuccess, Code::k_ok, "success"},
    {NvmeStatus::kInvalidOpcode, Code::k_not_supported, "invalid opcode"},
    {NvmeStatus::kInvalidField, Code::k_invalid_argument, "invalid field in command"},
    {NvmeStatus::kCommandIdConflict, Code::k_internal, "command ID conflict"},
    {NvmeStatus::kDataTransferError, Code::k_io_error, "data transfer error"},
    {NvmeStatus::kInternalError, Code::k_internal, "internal error"},
    {NvmeStatus::kAbortRequested, Code::k_cancelled, "command abort requested"},
    {NvmeStatus::kAbortedQueueDeleted, Code::k_unavailable, "command aborted: queue deleted"},
    {NvmeStatus::kFailedFused, Code::k_cancelled, "command aborted: failed fused command"},
    {NvmeStatus::kMissingFused, Code::k_bad_state, "command aborted: missing fused command"},
    {NvmeStatus::kInvalidNamespace, Code::k_not_found, "invalid namespace or format"},
    {NvmeStatus::kCommandSequenceError, Code::k_bad_state, "command sequence error"},
    {NvmeStatus::kSglDataLengthInvalid, Code::k_invalid_argument, "data SGL length invalid"},
    {NvmeStatus::kSglTypeInvalid, Code::k_invalid_argument, "SGL descriptor type invalid"},
    {NvmeStatus::kOperationDenied, Code::k_permission_denied, "operation denied"},
    {NvmeStatus::kSglOffsetInvalid, Code::k_invalid_argument, "SGL offset invalid"},
    {NvmeStatus::kHostIdInconsistent, Code::k_invalid_argument,
     "host identifier inconsistent format"},
    {NvmeStatus::kAbortedByPreempt, Code::k_fenced, "command aborted due to preempt and abort"},
    {NvmeStatus::kKeepAliveTimerInvalid, Code::k_invalid_argument, "keep alive timeout invalid"},
    {NvmeStatus::kNamespaceWriteProtected, Code::k_permission_denied,
     "namespace is write protected"},
    {NvmeStatus::kTransientTransportError, Code::k_unavailable, "transient transport error"},
    {NvmeStatus::kInvalidCommandSet, Code::k_not_supported, "invalid I/O command set"},
    {NvmeStatus::kLbaOutOfRange, Code::k_invalid_argument, "LBA out of range"},
    {NvmeStatus::kCapacityExceeded, Code::k_no_space, "capacity exceeded"},
    {NvmeStatus::kNamespaceNotReady, Code::k_unavailable, "namespace not ready"},
    {NvmeStatus::kReservationConflict, Code::k_fenced, "reservation conflict"},
    {NvmeStatus::kAbortLimitExceeded, Code::k_busy, "abort command limit exceeded"},
    {NvmeStatus::kAsyncEventLimitExceeded, Code::k_busy, "asynchronous event limit exceeded"},
    {NvmeStatus::kInvalidLogPage, Code::k_not_supported, "invalid log page"},
    {NvmeStatus::kFeatureNotSaveable, Code::k_not_supported, "feature identifier not saveable"},
    {NvmeStatus::kFeatureNotChangeable, Code::k_not_supported, "feature not changeable"},
    {NvmeStatus::kConnectIncompatibleFormat, Code::k_not_supported, "connect: incompatible format"},
    {NvmeStatus::kConnectControllerBusy, Code::k_busy, "connect: controller busy"},
    {NvmeStatus::kConnectInvalidParameters, Code::k_invalid_argument,
     "connect: invalid parameters"},
    {NvmeStatus::kCommandSizeLimit, Code::k_invalid_argument, "command size limit exceeded"},
    {NvmeStatus::kConnectInvalidHost, Code::k_permission_denied, "connect: invalid host"},
    {NvmeStatus::kAuthenticationRequired, Code::k_permission_denied,
     "connect: authentication is required"},
    {NvmeStatus::kWriteFault, Code::k_io_error, "write fault"},
    {NvmeStatus::kUnrecoveredReadError, Code::k_io_error, "unrecovered read error"},
    {NvmeStatus::kGuardCheckError, Code::k_corrupt, "end-to-end guard check error"},
    {NvmeStatus::kCompareFailure, Code::k_io_error, "compare failure"},
    {NvmeStatus::kInternalPathError, Code::k_unavailable, "internal path error"},
    {NvmeStatus::kAnaPersistentLoss, Code::k_unavailable, "ANA: persistent loss"},
    {NvmeStatus::kAnaInaccessible, Code::k_unavailable, "ANA: inaccessible"},
    {NvmeStatus::kAnaTransition, Code::k_unavailable, "ANA: in transition"},
    {NvmeStatus::kControllerPathError, Code::k_unavailable, "controller pathing error"},
    {NvmeStatus::kHostPathError, Code::k_unavailable, "host pathing error"},
};

const Row* row_of(NvmeStatus status) {
  for (const Row& row : kRows) {
    if (row.status == plain_status(status)) return &row;
  }
  return nullptr;
}

}  // namespace

std::string nvme_status_text(NvmeStatus status) {
  const Row* row = row_of(status);
  return fmt::format("{} (0x{:03x})", row != nullptr ? row->text : "NVMe status",
                     static_cast<uint16_t>(plain_status(status)));
}

NvmeStatus nvme_status_of(Code code, bool reads) {
  switch (code) {
    case Code::k_ok:
      return NvmeStatus::kSuccess;
    case Code::k_invalid_argument:
    case Code::k_not_found:
    case Code::k_already_exists:
      return final_status(NvmeStatus::kInvalidField);
    case Code::k_permission_denied:
      return final_status(NvmeStatus::kNamespaceWriteProtected);
    case Code::k_not_supported:
      return final_status(NvmeStatus::kInvalidOpcode);
    case Code::k_no_space:
      return final_status(NvmeStatus::kCapacityExceeded);
    case Code::k_bad_state:
    case Code::k_unavailable:
    case Code::k_busy:
    case Code::k_timed_out:
    case Code::k_not_leader:
      return NvmeStatus::kNamespaceNotReady;
    case Code::k_fenced:
      return final_status(NvmeStatus::kReservationConflict);
    case Code::k_io_error:
      return reads ? NvmeStatus::kUnrecoveredReadError : NvmeStatus::kWriteFault;
    case Code::k_corrupt:
      return NvmeStatus::kGuardCheckError;
    case Code::k_cancelled:
      return NvmeStatus::kAbortRequested;
    case Code::k_internal:
      return NvmeStatus::kInternalError;
  }
  return NvmeStatus::kInternalError;
}

Code code_of(NvmeStatus status) {
  const Row* row = row_of(status);
  if (row != nullptr) return row->code;
  return path_related(status) ? Code::k_unavailable : Code::k_io_error;
}

}  // namespace bb::io::nvme
