// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/wire.h"

#include <algorithm>

namespace bb::io::nbd {
namespace {

Verdict refuse(Errno error, const char* reason, uint32_t payload_bytes = 0) {
  return {.action = Verdict::Action::kRefuse,
          .error = error,
          .reason = reason,
          .payload_bytes = payload_bytes};
}

// Which flags a command may carry.
uint16_t allowed_flags(Command command, bool structured) {
  switch (command) {
    case Command::kRead:
      // FUA on a read means nothing but is allowed by the protocol.
      return structured ? kFua | kDf : kFua;
    case Command::kWrite:
    case Command::kTrim:
      return kFua;
    case Command::kWriteZeroes:
      return kFua | kNoHole | kFastZero;
    case Command::kDisconnect:
    case Command::kFlush:
    case Command::kCache:
    case Command::kBlockStatus:
      return kFua;  // meaningless and harmless: some clients set it on everything
  }
  return 0;
}

Verdict judge_range(const ExportInfo& device, const Request& request, uint32_t payload) {
  bool changes = request.command != Command::kRead;
  if (request.length_bytes == 0) return refuse(Errno::kInvalid, "no length", payload);
  if (request.offset_bytes > device.size_bytes ||
      request.length_bytes > device.size_bytes - request.offset_bytes) {
    bool writes = request.command == Command::kWrite || request.command == Command::kWriteZeroes;
    return refuse(writes ? Errno::kNoSpace : Errno::kInvalid, "beyond the end of the export",
                  payload);
  }
  if ((request.offset_bytes | request.length_bytes) % device.block_min_bytes != 0) {
    return refuse(Errno::kInvalid, "not a multiple of the minimum block size", payload);
  }
  if (changes && device.read_only) return refuse(Errno::kPermission, "read-only", payload);
  return {.payload_bytes = payload};
}

void encode_chunk_header(std::byte* to, uint16_t type, uint64_t cookie, uint32_t length_bytes) {
  constexpr uint16_t kDone = 1;  // always one chunk a reply
  store_be<uint32_t>(to, kChunkMagic);
  store_be<uint16_t>(to + 4, kDone);
  store_be<uint16_t>(to + 6, type);
  store_be<uint64_t>(to + 8, cookie);
  store_be<uint32_t>(to + 16, length_bytes);
}

constexpr uint16_t kChunkOffsetData = 1;
constexpr uint16_t kChunkError = (1 << 15) | 1;

}  // namespace

Errno errno_of(Code code) {
  switch (code) {
    case Code::k_ok:
      return Errno::kNone;
    case Code::k_invalid_argument:
      return Errno::kInvalid;
    case Code::k_permission_denied:
      return Errno::kPermission;
    case Code::k_no_space:
      return Errno::kNoSpace;
    case Code::k_not_supported:
      return Errno::kNotSupported;
    case Code::k_bad_state:
    case Code::k_cancelled:
      return Errno::kShutdown;
    case Code::k_not_found:
    case Code::k_already_exists:
    case Code::k_unavailable:
    case Code::k_busy:
    case Code::k_timed_out:
    case Code::k_not_leader:
    case Code::k_fenced:
    case Code::k_io_error:
    case Code::k_corrupt:
    case Code::k_internal:
      return Errno::kIo;
  }
  return Errno::kIo;
}

// Several connections may write: a flush on any of them reaches the one device behind all.
uint16_t ExportInfo::transmission_flags(bool structured) const {
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kSendWriteZeroes | kCanMultiConn;
  if (read_only) flags |= kReadOnly;
  if (trim) flags |= kSendTrim;
  if (structured) flags |= kSendDf;
  return static_cast<uint16_t>(flags);
}

std::optional<Request> decode_request(ConstBytes bytes) {
  BB_CHECK(bytes.size() == kRequestBytes, "a request of {} bytes", bytes.size());
  const std::byte* from = bytes.data();
  if (load_be<uint32_t>(from) != kRequestMagic) return std::nullopt;
  return Request{.flags = load_be<uint16_t>(from + 4),
                 .command = static_cast<Command>(load_be<uint16_t>(from + 6)),
                 .cookie = load_be<uint64_t>(from + 8),
                 .offset_bytes = load_be<uint64_t>(from + 16),
                 .length_bytes = load_be<uint32_t>(from + 24)};
}

void encode_request(const Request& request, std::byte* to) {
  store_be<uint32_t>(to, kRequestMagic);
  store_be<uint16_t>(to + 4, request.flags);
  store_be<uint16_t>(to + 6, static_cast<uint16_t>(request.command));
  store_be<uint64_t>(to + 8, request.cookie);
  store_be<uint64_t>(to + 16, request.offset_bytes);
  store_be<uint32_t>(to + 24, request.length_bytes);
}

Verdict judge(const ExportInfo& device, bool structured, const Request& request) {
  uint32_t payload = request.command == Command::kWrite ? request.length_bytes : 0;
  if (payload > kSkippedPayloadMax) {
    return {.action = Verdict::Action::kDrop, .reason = "a write too large to skip"};
  }
  if (request.command > Command::kBlockStatus) {
    return refuse(Errno::kInvalid, "unknown command");
  }
  if ((request.flags & ~unsigned{allowed_flags(request.command, structured)}) != 0) {
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
      if (!device.trim) return refuse(Errno::kInvalid, "trim was not offered");
      return judge_range(device, request, 0);
    case Command::kWriteZeroes:
      // Never promised: whether zeroing is fast is not known of a device.
      if ((request.flags & kFastZero) != 0) {
        return refuse(Errno::kNotSupported, "fast zeroes were not offered");
      }
      return judge_range(device, request, 0);
    case Command::kCache:
    case Command::kBlockStatus:
      return refuse(Errno::kInvalid, "this command was not offered");
  }
  return refuse(Errno::kInvalid, "unknown command");
}

size_t encode_simple_reply(std::byte* to, uint64_t cookie, Errno error) {
  store_be<uint32_t>(to, kSimpleReplyMagic);
  store_be<uint32_t>(to + 4, static_cast<uint32_t>(error));
  store_be<uint64_t>(to + 8, cookie);
  return kSimpleReplyBytes;
}

size_t encode_data_chunk(std::byte* to, uint64_t cookie, uint64_t offset_bytes,
                         uint32_t data_bytes) {
  encode_chunk_header(to, kChunkOffsetData, cookie, data_bytes + 8);
  store_be<uint64_t>(to + kChunkHeaderBytes, offset_bytes);
  return kDataChunkBytes;
}

size_t encode_error_chunk(std::vector<std::byte>& to, uint64_t cookie, Errno error,
                          std::string_view text) {
  text = text.substr(0, kErrorTextMax);
  size_t at = to.size();
  to.resize(at + kChunkHeaderBytes);
  encode_chunk_header(to.data() + at, kChunkError, cookie, static_cast<uint32_t>(6 + text.size()));
  Writer(to).be(static_cast<uint32_t>(error)).be(static_cast<uint16_t>(text.size())).text(text);
  return to.size() - at;
}

Writer& Writer::text(std::string_view value) {
  ConstBytes bytes = as_bytes(value);
  to_.insert(to_.end(), bytes.begin(), bytes.end());
  return *this;
}

Writer& Writer::zeroes(size_t count) {
  to_.resize(to_.size() + count);
  return *this;
}

}  // namespace bb::io::nbd
