// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/export_info.h"

namespace bb::io::nbd {
namespace {

Verdict refuse(Errno error, const char* reason, uint32_t payload_bytes = 0) {
  return {.action = Verdict::Action::kRefuse,
          .error = error,
          .reason = reason,
          .payload_bytes = payload_bytes};
}

// Which flags a command may carry.
unsigned allowed_flags(Command command, Framing framing) {
  switch (command) {
    case Command::kRead:
      // FUA on a read means nothing but is allowed by the protocol.
      return framing == Framing::kSimple ? kFua : kFua | kDf;
    case Command::kWrite:
      return framing == Framing::kExtended ? kFua | kPayloadLength : kFua;
    case Command::kTrim:
      return kFua;
    case Command::kWriteZeroes:
      return kFua | kNoHole | kFastZero;
    case Command::kBlockStatus:
      return kFua | kReqOne;
    case Command::kDisconnect:
    case Command::kFlush:
    case Command::kCache:
      return kFua;  // meaningless and harmless: some clients set it on everything
  }
  return 0;
}

Verdict judge_range(const ExportInfo& device, const Request& request, uint32_t payload) {
  bool zeroes = request.command == Command::kWriteZeroes;
  bool writes = request.command == Command::kWrite || zeroes;
  bool changes = writes || request.command == Command::kTrim;
  if (request.length_bytes == 0) return refuse(Errno::kInvalid, "no length", payload);
  if (request.offset_bytes > device.size_bytes ||
      request.length_bytes > device.size_bytes - request.offset_bytes) {
    return refuse(writes ? Errno::kNoSpace : Errno::kInvalid, "beyond the end of the export",
                  payload);
  }
  if ((request.offset_bytes | request.length_bytes) % device.block_min_bytes != 0) {
    return refuse(Errno::kInvalid, "not a multiple of the minimum block size", payload);
  }
  if (changes && device.read_only) return refuse(Errno::kPermission, "read-only", payload);
  return {.payload_bytes = payload};
}

// The bytes behind a request: of a write always, of others where extended headers say so.
uint64_t payload_of(Framing framing, const Request& request) {
  bool announced = framing == Framing::kExtended && (request.flags & kPayloadLength) != 0;
  return request.command == Command::kWrite || announced ? request.length_bytes : 0;
}

}  // namespace

// Multi-conn: a flush on any connection reaches the one device behind all. Fast
// zeroes are offered of every device, which may well say that it cannot.
uint16_t ExportInfo::transmission_flags(Framing framing) const {
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kSendCache;
  if (multi_conn) flags |= kCanMultiConn;
  if (read_only) {
    flags |= kReadOnly;
  } else {
    flags |= kSendWriteZeroes | kSendFastZero;
    if (trim) flags |= kSendTrim;
  }
  if (framing != Framing::kSimple) flags |= kSendDf;
  return static_cast<uint16_t>(flags);
}

Verdict judge(const ExportInfo& device, Agreed agreed, const Request& request) {
  uint64_t follows = payload_of(agreed.framing, request);
  if (follows > kSkippedPayloadMax) {
    return {.action = Verdict::Action::kDrop, .reason = "a payload too large to skip"};
  }
  auto payload = static_cast<uint32_t>(follows);
  if (request.command > Command::kBlockStatus) {
    return refuse(Errno::kInvalid, "unknown command", payload);
  }
  if ((request.flags & ~allowed_flags(request.command, agreed.framing)) != 0) {
    return refuse(Errno::kInvalid, "unknown flag", payload);
  }
  switch (request.command) {
    case Command::kDisconnect:
      return {.action = Verdict::Action::kDisconnect};
    case Command::kFlush:
      if (request.offset_bytes != 0 || request.length_bytes != 0) {
        return refuse(Errno::kInvalid, "flush of a range");
      }
      return {};
    case Command::kRead:
    case Command::kWrite:
      if (request.length_bytes > kPayloadMax) {
        return refuse(Errno::kInvalid, "larger than the maximum block size", payload);
      }
      return judge_range(device, request, payload);
    case Command::kTrim:
      if (!device.trim && !device.read_only) {
        return refuse(Errno::kInvalid, "trim was not offered");
      }
      return judge_range(device, request, 0);
    case Command::kWriteZeroes:
    case Command::kCache:
      return judge_range(device, request, 0);
    case Command::kBlockStatus:
      if (!agreed.allocation) return refuse(Errno::kInvalid, "no metadata context was agreed");
      return judge_range(device, request, 0);
  }
  return refuse(Errno::kInvalid, "unknown command", payload);
}

}  // namespace bb::io::nbd
