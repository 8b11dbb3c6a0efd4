// SPDX-License-Identifier: Apache-2.0
// pure: NVMe/TCP transport 1.0, what travels on the wire
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace bb::io::nvme {

enum class PduType : uint8_t {
  kIcReq = 0x00,
  kIcResp = 0x01,
  kH2cTermReq = 0x02,
  kC2hTermReq = 0x03,
  kCapsuleCmd = 0x04,
  kCapsuleResp = 0x05,
  kH2cData = 0x06,
  kC2hData = 0x07,
  kR2t = 0x09,
};

inline constexpr uint8_t kFlagHeaderDigest = 1u << 0;
inline constexpr uint8_t kFlagDataDigest = 1u << 1;
inline constexpr uint8_t kFlagDataLast = 1u << 2;
inline constexpr uint8_t kFlagDataSuccess = 1u << 3;  // C2HData: no capsule response follows

// Fatal Error Status of a termination request.
enum class FatalError : uint16_t {
  kNone = 0x00,
  kInvalidHeaderField = 0x01,    // FEI: byte offset of the field
  kSequence = 0x02,              // a PDU that is not allowed now
  kHeaderDigest = 0x03,          // FEI: the digest that was received
  kDataOutOfRange = 0x04,        // beyond what the R2T or command asked for
  kLimitExceeded = 0x05,         // R2T limit, or data transfer limit
  kUnsupportedParameter = 0x06,  // FEI: byte offset of the field
};

inline constexpr size_t kCommonHeaderBytes = 8;
inline constexpr size_t kDigestBytes = 4;
inline constexpr size_t kIcBytes = 128;
inline constexpr size_t kCapsuleCmdHeaderBytes = 72;
inline constexpr size_t kCapsuleRespHeaderBytes = 24;
inline constexpr size_t kDataHeaderBytes = 24;
inline constexpr size_t kR2tHeaderBytes = 24;
inline constexpr size_t kTermHeaderBytes = 24;
inline constexpr size_t kTermDataMaxBytes = 128;
inline constexpr uint32_t kAlignmentMaxBytes = 128;
// Header, header digest and padding in front of the data never take more than this.
inline constexpr size_t kHeaderRoomBytes = 144;

struct Digests {
  bool header = false;
  bool data = false;
  auto operator<=>(const Digests&) const = default;
};

// How PDUs of one direction look on a connection: digests (both directions alike) and the alignment
// of data that the receiver asked for (HPDA or CPDA, in bytes here).
struct PduFormat {
  Digests digests;
  uint32_t alignment_bytes = 4;
};

struct PduHeader {
  PduType type = PduType::kIcReq;
  uint8_t flags = 0;
  uint8_t hlen = 0;  // without digest
  uint8_t pdo = 0;   // where the data starts; 0 without data
  uint32_t plen = 0;

  static PduHeader decode(const std::byte* eight);
  void encode(std::byte* eight) const;
};

struct IcReq {
  uint16_t format_version = 0;
  uint8_t alignment_dwords = 0;  // HPDA, 0's based
  Digests digests;
  uint32_t r2t_max = 1;  // outstanding for one command, 1's based here

  static IcReq decode(ConstBytes header);
  size_t encode(Bytes into) const;  // 128 bytes
};

struct IcResp {
  uint16_t format_version = 0;
  uint8_t alignment_dwords = 0;  // CPDA, 0's based
  Digests digests;
  uint32_t h2c_data_max_bytes = 4096;  // MAXH2CDATA: at least 4096, multiple of 4

  static IcResp decode(ConstBytes header);
  size_t encode(Bytes into) const;  // 128 bytes
};

struct TermReq {
  FatalError error = FatalError::kNone;
  uint32_t information = 0;
  ConstBytes header;  // of the PDU at fault, at most 128 bytes

  static TermReq decode(ConstBytes pdu);
  // `type`: kH2cTermReq or kC2hTermReq. Up to 152 bytes.
  size_t encode(Bytes into, PduType type) const;
};

struct DataHeader {
  uint16_t command_id = 0;
  uint16_t transfer_tag = 0;  // H2CData: of the R2T
  uint32_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  bool last = false;
  bool success = false;  // C2HData only

  static DataHeader decode(ConstBytes header, uint8_t flags);
};

struct R2t {
  uint16_t command_id = 0;
  uint16_t transfer_tag = 0;
  uint32_t offset_bytes = 0;
  uint32_t length_bytes = 0;

  static R2t decode(ConstBytes header);
  size_t encode(Bytes into, const PduFormat& format) const;  // with digest
};

// Where data starts in a PDU of this header length.
uint8_t data_offset(size_t header_bytes, const PduFormat& format);

// Each writes header, header digest and padding and returns that length: the data (and its digest,
// store_digest) follow. Without data it is the whole PDU.
size_t encode_capsule_cmd(Bytes into, ConstBytes sqe, uint32_t data_bytes, const PduFormat& format);
size_t encode_capsule_resp(Bytes into, ConstBytes cqe, const PduFormat& format);
size_t encode_h2c_data(Bytes into, const DataHeader& data, const PduFormat& format);
size_t encode_c2h_data(Bytes into, const DataHeader& data, const PduFormat& format);

// A digest as it stands on the wire.
inline void store_digest(std::byte* to, uint32_t crc) { store_le<uint32_t>(to, crc); }
inline uint32_t load_digest(const std::byte* from) { return load_le<uint32_t>(from); }

inline ConstBytes capsule_sqe(ConstBytes header) { return header.subspan(8, 64); }
inline ConstBytes capsule_cqe(ConstBytes header) { return header.subspan(8, 16); }

}  // namespace bb::io::nvme
