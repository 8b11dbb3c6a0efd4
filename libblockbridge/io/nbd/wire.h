// SPDX-License-Identifier: Apache-2.0
// pure: the NBD protocol's numbers, and bytes to values and back
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

// The Network Block Device protocol, fixed newstyle (the document doc/proto.md of its project). All
// integers are big-endian.
namespace bb::io::nbd {

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;     // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;       // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;  // server's answer to an option
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;  // structured reply
inline constexpr uint32_t kExtendedChunkMagic = 0x6e8a278c;

inline constexpr size_t kGreetingBytes = 18;
inline constexpr size_t kClientFlagsBytes = 4;
inline constexpr size_t kOptionHeaderBytes = 16;
inline constexpr size_t kOptionReplyHeaderBytes = 20;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kExtendedRequestBytes = 32;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kChunkHeaderBytes = 20;
inline constexpr size_t kExtendedChunkHeaderBytes = 32;
inline constexpr size_t kReplyHeaderMax = kExtendedChunkHeaderBytes + 8;  // and a chunk's offset

// What a peer may ask of us.
inline constexpr uint32_t kPayloadMax = 32u << 20;         // one read or write
inline constexpr uint32_t kSkippedPayloadMax = 64u << 20;  // a refused write is read and forgotten
inline constexpr uint32_t kOptionDataMax = 8192;
inline constexpr uint32_t kSkippedOptionMax = 1u << 20;
inline constexpr uint32_t kOptionsMax = 256;  // in one handshake
inline constexpr uint32_t kNameMax = 4096;
inline constexpr uint32_t kErrorTextMax = 1024;
inline constexpr uint32_t kExtentsMax = 2048;  // in one reply to a block status

enum HandshakeFlag : uint16_t { kFixedNewstyle = 1, kNoZeroes = 2 };

enum class Option : uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
  kExtendedHeaders = 11,
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrUnsupported = 0x80000001,
  kErrPolicy = 0x80000002,
  kErrInvalid = 0x80000003,
  kErrTlsRequired = 0x80000005,
  kErrUnknown = 0x80000006,
  kErrShutdown = 0x80000007,
  kErrBlockSizeRequired = 0x80000008,
  kErrTooBig = 0x80000009,
  kErrExtendedHeaders = 0x8000000a,  // they are agreed, or they would be needed
};
inline constexpr uint32_t kOptionReplyError = 0x80000000;

enum class Info : uint16_t { kExport = 0, kName = 1, kDescription = 2, kBlockSize = 3 };

enum TransmissionFlag : uint16_t {
  kHasFlags = 1 << 0,
  kReadOnly = 1 << 1,
  kSendFlush = 1 << 2,
  kSendFua = 1 << 3,
  kSendTrim = 1 << 5,
  kSendWriteZeroes = 1 << 6,
  kSendDf = 1 << 7,
  kCanMultiConn = 1 << 8,
  kSendCache = 1 << 10,
  kSendFastZero = 1 << 11,
};

// The one metadata context there is: what is allocated, what reads as zeroes.
inline constexpr std::string_view kAllocationContext = "base:allocation";
inline constexpr uint32_t kAllocationContextId = 1;  // ours to choose

enum class Command : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

enum CommandFlag : uint16_t {
  kFua = 1 << 0,
  kNoHole = 1 << 1,
  kDf = 1 << 2,
  kReqOne = 1 << 3,
  kFastZero = 1 << 4,
  kPayloadLength = 1 << 5,  // extended headers: the length is that of a payload that follows
};

// How requests and replies look, as the handshake agreed. Structured: replies may come in chunks.
// Extended: lengths of 64 bits, all replies are chunks.
enum class Framing : uint8_t { kSimple, kStructured, kExtended };

enum class ChunkType : uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kBlockStatusExtended = 6,
  kError = 0x8001,
  kErrorOffset = 0x8002,
};
inline constexpr uint16_t kChunkError = 0x8000;  // in the type of each error
inline constexpr uint16_t kChunkDone = 1;        // flag: the last of a reply

// Errors as the wire numbers them (those of Linux, whatever we run on).
enum class Errno : uint32_t {
  kNone = 0,
  kPermission = 1,
  kIo = 5,
  kNoMemory = 12,
  kInvalid = 22,
  kNoSpace = 28,
  kOverflow = 75,
  kNotSupported = 95,
  kShutdown = 108,
};
Errno errno_of(Code code);
Code code_of(Errno number);  // unknown numbers are I/O errors
std::string_view errno_text(Errno number);

struct Request {
  uint16_t flags = 0;
  Command command = Command::kRead;
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // below 2^32 unless headers are extended
};

constexpr size_t request_bytes(Framing framing) {
  return framing == Framing::kExtended ? kExtendedRequestBytes : kRequestBytes;
}
// From exactly request_bytes(); nothing when the magic is wrong (the stream is lost then).
std::optional<Request> decode_request(ConstBytes bytes, Framing framing = Framing::kSimple);
size_t encode_request(const Request& request, std::byte* to, Framing framing = Framing::kSimple);

// The fixed part of any reply; of a chunk `payload_bytes` follow.
struct ReplyHeader {
  bool simple = false;
  Errno error = Errno::kNone;  // simple
  uint16_t flags = 0;          // chunk
  ChunkType type = ChunkType::kNone;
  uint64_t cookie = 0;
  uint64_t payload_bytes = 0;
};
// How long the header is that begins with this magic; 0 when this framing knows no such reply.
size_t reply_header_bytes(uint32_t magic, Framing framing);
ReplyHeader decode_reply_header(ConstBytes bytes);  // exactly reply_header_bytes()

// Encoders of replies. Those with a pointer write to `to` and return the length.
size_t encode_success(std::byte* to, const Request& request, Framing framing);
size_t encode_data_header(std::byte* to, const Request& request, Framing framing);  // data follows
// Simple replies say no more than the number. `at_bytes` is where in the range it happened.
void encode_error(std::vector<std::byte>& to, const Request& request, Framing framing, Errno error,
                  std::string_view text, std::optional<uint64_t> at_bytes = std::nullopt);

struct BlockState {
  uint64_t length_bytes = 0;
  bool hole = false;
  bool zero = false;
};
void encode_block_status(std::vector<std::byte>& to, const Request& request, Framing framing,
                         const std::vector<BlockState>& states);

// Growing output.
class Writer {
 public:
  explicit Writer(std::vector<std::byte>& to) : to_(to) {}
  template <typename T>
  Writer& be(T value) {
    size_t at = to_.size();
    to_.resize(at + sizeof(T));
    store_be(to_.data() + at, value);
    return *this;
  }
  Writer& text(std::string_view value);
  Writer& zeroes(size_t count);

 private:
  std::vector<std::byte>& to_;
};

// Reads from the front; `good` turns false when it runs out.
struct Reader {
  ConstBytes left;
  bool good = true;

  template <typename T>
  T be() {
    if (left.size() < sizeof(T)) {
      good = false;
      return 0;
    }
    T value = load_be<T>(left.data());
    left = left.subspan(sizeof(T));
    return value;
  }
  std::string_view text(size_t length) {  // of at most kNameMax
    if (left.size() < length || length > kNameMax) {
      good = false;
      return {};
    }
    std::string_view value = as_text(left.first(length));
    left = left.subspan(length);
    return value;
  }
};

// A peer's words in a message of ours: one line, nothing a terminal would obey.
std::string printable(std::string_view text);

}  // namespace bb::io::nbd
