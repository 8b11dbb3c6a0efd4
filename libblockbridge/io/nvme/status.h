// SPDX-License-Identifier: Apache-2.0
// pure: NVMe completion status and what it means to the library
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace bb::io::nvme {

// Status code type in bits 10:8, status code in 7:0, "do not retry" in bit 14: the status field of
// a completion without its phase bit.
enum class NvmeStatus : uint16_t {
  kSuccess = 0x000,
  kInvalidOpcode = 0x001,
  kInvalidField = 0x002,
  kCommandIdConflict = 0x003,
  kDataTransferError = 0x004,
  kInternalError = 0x006,
  kAbortRequested = 0x007,
  kAbortedQueueDeleted = 0x008,
  kFailedFused = 0x009,
  kMissingFused = 0x00a,
  kInvalidNamespace = 0x00b,
  kCommandSequenceError = 0x00c,
  kSglDataLengthInvalid = 0x00f,
  kSglTypeInvalid = 0x011,
  kOperationDenied = 0x015,
  kSglOffsetInvalid = 0x016,
  kHostIdInconsistent = 0x018,
  kKeepAliveTimerInvalid = 0x01a,
  kAbortedByPreempt = 0x01b,
  kNamespaceWriteProtected = 0x020,
  kTransientTransportError = 0x022,
  kInvalidCommandSet = 0x02c,
  kLbaOutOfRange = 0x080,
  kCapacityExceeded = 0x081,
  kNamespaceNotReady = 0x082,
  kReservationConflict = 0x083,
  kAbortLimitExceeded = 0x103,
  kAsyncEventLimitExceeded = 0x105,
  kInvalidLogPage = 0x109,
  kFeatureNotSaveable = 0x10d,
  kFeatureNotChangeable = 0x10e,
  kConnectIncompatibleFormat = 0x180,
  kConnectControllerBusy = 0x181,
  kConnectInvalidParameters = 0x182,
  kCommandSizeLimit = 0x183,
  kConnectInvalidHost = 0x184,
  kAuthenticationRequired = 0x191,
  kWriteFault = 0x280,
  kUnrecoveredReadError = 0x281,
  kGuardCheckError = 0x282,
  kCompareFailure = 0x285,
  kInternalPathError = 0x300,
  kAnaPersistentLoss = 0x301,
  kAnaInaccessible = 0x302,
  kAnaTransition = 0x303,
  kControllerPathError = 0x360,
  kHostPathError = 0x370,
};

inline constexpr uint16_t kDoNotRetry = 0x4000;
inline constexpr uint16_t kMore = 0x2000;

constexpr NvmeStatus final_status(NvmeStatus status) {  // with "do not retry"
  return static_cast<NvmeStatus>(static_cast<uint16_t>(status) | kDoNotRetry);
}
// Without "do not retry", "more" and the retry delay.
constexpr NvmeStatus plain_status(NvmeStatus status) {
  return static_cast<NvmeStatus>(static_cast<uint16_t>(status) & 0x7ff);
}
constexpr bool may_retry(NvmeStatus status) {
  return (static_cast<uint16_t>(status) & kDoNotRetry) == 0;
}

// The path is at fault, not the command: another controller may well do it.
constexpr bool path_related(NvmeStatus status) {
  return (static_cast<uint16_t>(status) & 0x700) == 0x300;
}

// "LBA out of range (0x080)".
std::string nvme_status_text(NvmeStatus status);

// What a target answers when its device gave `code`; `reads`: a read or compare.
NvmeStatus nvme_status_of(Code code, bool reads);
// What an initiator reports for a completion status.
Code code_of(NvmeStatus status);

}  // namespace bb::io::nvme
