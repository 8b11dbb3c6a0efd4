// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/wire.h"

#include <algorithm>

namespace bb::io::nbd {
namespace {

size_t encode_chunk_header(std::byte* to, const Request& request, Framing framing, ChunkType type,
                           uint64_t payload_bytes) {
  bool extended = framing == Framing::kExtended;
  store_be<uint32_t>(to, extended ? kExtendedChunkMagic : kChunkMagic);
  store_be<uint16_t>(to + 4, kChunkDone);  // always one chunk a reply
  store_be<uint16_t>(to + 6, static_cast<uint16_t>(type));
  store_be<uint64_t>(to + 8, request.cookie);
  if (!extended) {
    store_be<uint32_t>(to + 16, static_cast<uint32_t>(payload_bytes));
    return kChunkHeaderBytes;
  }
  store_be<uint64_t>(to + 16, request.offset_bytes);
  store_be<uint64_t>(to + 24, payload_bytes);
  return kExtendedChunkHeaderBytes;
}

size_t encode_simple_reply(std::byte* to, uint64_t cookie, Errno error) {
  store_be<uint32_t>(to, kSimpleReplyMagic);
  store_be<uint32_t>(to + 4, static_cast<uint32_t>(error));
  store_be<uint64_t>(to + 8, cookie);
  return kSimpleReplyBytes;
}

// Grows `to` by a header.
template <typename Encode>
void append(std::vector<std::byte>& to, Encode encode) {
  std::byte header[kReplyHeaderMax];
  size_t length = encode(header);
  to.insert(to.end(), header, header + length);
}

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

Code code_of(Errno number) {
  switch (number) {
    case Errno::kNone:
      return Code::k_ok;
    case Errno::kPermission:
      return Code::k_permission_denied;
    case Errno::kNoMemory:
      return Code::k_busy;  // the server's memory: later it may have some
    case Errno::kInvalid:
    case Errno::kOverflow:
      return Code::k_invalid_argument;
    case Errno::kNoSpace:
      return Code::k_no_space;
    case Errno::kNotSupported:
      return Code::k_not_supported;
    case Errno::kShutdown:
      return Code::k_unavailable;
    case Errno::kIo:
      return Code::k_io_error;
  }
  return Code::k_io_error;
}

std::string_view errno_text(Errno number) {
  switch (number) {
    case Errno::kNone:
      return "success";
    case Errno::kPermission:
      return "operation not permitted";
    case Errno::kIo:
      return "input/output error";
    case Errno::kNoMemory:
      return "out of memory";
    case Errno::kInvalid:
      return "invalid argument";
    case Errno::kNoSpace:
      return "no space left";
    case Errno::kOverflow:
      return "value too large";
    case Errno::kNotSupported:
      return "not supported";
    case Errno::kShutdown:
      return "the server is shutting down";
  }
  return "unknown error";
}

std::optional<Request> decode_request(ConstBytes bytes, Framing framing) {
  BB_CHECK(bytes.size() == request_bytes(framing), "a request of {} bytes", bytes.size());
  const std::byte* from = bytes.data();
  bool extended = framing == Framing::kExtended;
  uint32_t magic = extended ? kExtendedRequestMagic : kRequestMagic;
  if (load_be<uint32_t>(from) != magic) return std::nullopt;
  return Request{
      .flags = load_be<uint16_t>(from + 4),
      .command = static_cast<Command>(load_be<uint16_t>(from + 6)),
      .cookie = load_be<uint64_t>(from + 8),
      .offset_bytes = load_be<uint64_t>(from + 16),
      .length_bytes = extended ? load_be<uint64_t>(from + 24) : load_be<uint32_t>(from + 24)};
}

size_t encode_request(const Request& request, std::byte* to, Framing framing) {
  bool extended = framing == Framing::kExtended;
  store_be<uint32_t>(to, extended ? kExtendedRequestMagic : kRequestMagic);
  store_be<uint16_t>(to + 4, request.flags);
  store_be<uint16_t>(to + 6, static_cast<uint16_t>(request.command));
  store_be<uint64_t>(to + 8, request.cookie);
  store_be<uint64_t>(to + 16, request.offset_bytes);
  if (extended) {
    store_be<uint64_t>(to + 24, request.length_bytes);
  } else {
    store_be<uint32_t>(to + 24, static_cast<uint32_t>(request.length_bytes));
  }
  return request_bytes(framing);
}

size_t reply_header_bytes(uint32_t magic, Framing framing) {
  switch (framing) {
    case Framing::kSimple:
      return magic == kSimpleReplyMagic ? kSimpleReplyBytes : 0;
    case Framing::kStructured:
      if (magic == kSimpleReplyMagic) return kSimpleReplyBytes;
      return magic == kChunkMagic ? kChunkHeaderBytes : 0;
    case Framing::kExtended:
      return magic == kExtendedChunkMagic ? kExtendedChunkHeaderBytes : 0;
  }
  return 0;
}

ReplyHeader decode_reply_header(ConstBytes bytes) {
  const std::byte* from = bytes.data();
  uint32_t magic = load_be<uint32_t>(from);
  if (magic == kSimpleReplyMagic) {
    return {.simple = true,
            .error = static_cast<Errno>(load_be<uint32_t>(from + 4)),
            .cookie = load_be<uint64_t>(from + 8)};
  }
  return {.flags = load_be<uint16_t>(from + 4),
          .type = static_cast<ChunkType>(load_be<uint16_t>(from + 6)),
          .cookie = load_be<uint64_t>(from + 8),
          .payload_bytes = magic == kExtendedChunkMagic ? load_be<uint64_t>(from + 24)
                                                        : load_be<uint32_t>(from + 16)};
}

size_t encode_success(std::byte* to, const Request& request, Framing framing) {
  if (framing != Framing::kExtended) return encode_simple_reply(to, request.cookie, Errno::kNone);
  return encode_chunk_header(to, request, framing, ChunkType::kNone, 0);
}

size_t encode_data_header(std::byte* to, const Request& request, Framing framing) {
  if (framing == Framing::kSimple) return encode_simple_reply(to, request.cookie, Errno::kNone);
  size_t length =
      encode_chunk_header(to, request, framing, ChunkType::kOffsetData, request.length_bytes + 8);
  store_be<uint64_t>(to + length, request.offset_bytes);
  return length + 8;
}

void encode_error(std::vector<std::byte>& to, const Request& request, Framing framing, Errno error,
                  std::string_view text, std::optional<uint64_t> at_bytes) {
  if (framing == Framing::kSimple) {
    return append(
        to, [&](std::byte* header) { return encode_simple_reply(header, request.cookie, error); });
  }
  text = text.substr(0, kErrorTextMax);
  ChunkType type = at_bytes ? ChunkType::kErrorOffset : ChunkType::kError;
  uint64_t length = 6 + text.size() + (at_bytes ? 8 : 0);
  append(to, [&](std::byte* header) {
    return encode_chunk_header(header, request, framing, type, length);
  });
  Writer writer(to);
  writer.be(static_cast<uint32_t>(error)).be(static_cast<uint16_t>(text.size())).text(text);
  if (at_bytes) writer.be(*at_bytes);
}

// proto.md, "Structured reply types": descriptors of 32 bits each, of 64 with extended headers,
// where their number goes before them.
void encode_block_status(std::vector<std::byte>& to, const Request& request, Framing framing,
                         const std::vector<BlockState>& states) {
  bool extended = framing == Framing::kExtended;
  ChunkType type = extended ? ChunkType::kBlockStatusExtended : ChunkType::kBlockStatus;
  uint64_t length = extended ? 8 + 16 * states.size() : 4 + 8 * states.size();
  append(to, [&](std::byte* header) {
    return encode_chunk_header(header, request, framing, type, length);
  });
  Writer writer(to);
  writer.be(kAllocationContextId);
  if (extended) writer.be(static_cast<uint32_t>(states.size()));
  for (const BlockState& each : states) {
    uint32_t flags = (each.hole ? 1u : 0u) | (each.zero ? 2u : 0u);
    if (extended) {
      writer.be(each.length_bytes).be(uint64_t{flags});
    } else {
      writer.be(static_cast<uint32_t>(each.length_bytes)).be(flags);
    }
  }
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

std::string printable(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c < ' ' || c > '~') c = '?';
  }
  return line;
}

}  // namespace bb::io::nbd
