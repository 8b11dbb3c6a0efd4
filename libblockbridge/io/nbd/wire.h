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
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kChunkMagic = 0x668e33ef;  // structured reply

inline constexpr size_t kGreetingBytes = 18;
inline constexpr size_t kClientFlagsBytes = 4;
inline constexpr size_t kOptionHeaderBytes = 16;
inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kChunkHeaderBytes = 20;
inline constexpr size_t kDataChunkBytes = kChunkHeaderBytes + 8;  // and the offset
inline constexpr size_t kReplyHeaderMax = kDataChunkBytes;

// What a peer may ask of us.
inline constexpr uint32_t kPayloadMax = 32u << 20;         // one read or write
inline constexpr uint32_t kSkippedPayloadMax = 64u << 20;  // a refused write is read and forgotten
inline constexpr uint32_t kOptionDataMax = 8192;
inline constexpr uint32_t kSkippedOptionMax = 1u << 20;
inline constexpr uint32_t kOptionsMax = 256;  // in one handshake
inline constexpr uint32_t kNameMax = 4096;
inline constexpr uint32_t kErrorTextMax = 1024;

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
};

enum class OptionReply : uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kErrUnsupported = 0x80000001,
  kErrPolicy = 0x80000002,
  kErrInvalid = 0x80000003,
  kErrUnknown = 0x80000006,
  kErrTooBig = 0x80000009,
};

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
};

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
};

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

// What a client sees of a device.
struct ExportInfo {
  std::string name;
  std::string description;
  uint64_t size_bytes = 0;
  uint32_t block_min_bytes = 512;
  uint32_t block_preferred_bytes = 4096;
  bool read_only = false;
  bool trim = false;

  uint16_t transmission_flags(bool structured) const;
};

struct Request {
  uint16_t flags = 0;
  Command command = Command::kRead;
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
};

// From exactly kRequestBytes bytes; nothing when the magic is wrong (the stream is lost then).
std::optional<Request> decode_request(ConstBytes bytes);
void encode_request(const Request& request, std::byte* to);  // for tests and tools

// What is to become of a request.
struct Verdict {
  enum class Action : uint8_t { kServe, kRefuse, kDisconnect, kDrop };
  Action action = Action::kServe;
  Errno error = Errno::kNone;  // kRefuse
  const char* reason = "";     // kRefuse, kDrop: for the reply and the log
  uint32_t payload_bytes = 0;  // follows the request and must be taken off the stream
};
Verdict judge(const ExportInfo& device, bool structured, const Request& request);

// Encoders write to `to` and return the length.
size_t encode_simple_reply(std::byte* to, uint64_t cookie, Errno error);
size_t encode_data_chunk(std::byte* to, uint64_t cookie, uint64_t offset_bytes,
                         uint32_t data_bytes);  // the data follows
size_t encode_error_chunk(std::vector<std::byte>& to, uint64_t cookie, Errno error,
                          std::string_view text);

// Growing output of the handshake.
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

}  // namespace bb::io::nbd
