// SPDX-License-Identifier: Apache-2.0
// pure: bytes in of any split, PDUs out
#pragma once

#include <array>

#include "io/nvme/pdu.h"

namespace bb::io::nvme {

enum class Role : uint8_t { kController, kHost };  // of the side that reads

// Why a PDU is illegal: what the termination request says.
struct Violation {
  FatalError error = FatalError::kNone;
  uint32_t information = 0;
  const char* what = "";  // for the log
};

struct ReaderLimits {
  uint32_t capsule_data_max_bytes = 8192;  // in-capsule data of one command
  uint32_t data_pdu_max_bytes = 1u << 20;  // data of one H2CData or C2HData
};

struct PduEvent {
  enum class Kind : uint8_t {
    kNeedMore,  // the input is used up
    kHeader,    // `bytes` is the header (a termination request: with its data); the whole PDU when
                // reader.data_bytes() is 0
    kData,      // `bytes` of data at `offset_bytes` within the PDU's data
    kEnd,       // all data was there; `digest_ok`
    kIllegal,   // see violation(); the reader is of no use any more
  };
  Kind kind = Kind::kNeedMore;
  bool digest_ok = true;
  uint32_t offset_bytes = 0;
  ConstBytes bytes;  // within the input, or the reader: valid until the next call
};

// Takes PDUs out of a stream. Checks each against its type's lengths, the negotiated digests and
// alignment, and the limits, before anything of it is handed out. Keeps one header, never data.
class PduReader {
 public:
  PduReader(Role role, ReaderLimits limits) : role_(role), limits_(limits) {}

  // After ICReq/ICResp: what PDUs to us look like from now on. Before, only they are legal; after,
  // they no longer are.
  void negotiated(const PduFormat& format) {
    format_ = format;
    negotiated_ = true;
  }
  void set_limits(const ReaderLimits& limits) { limits_ = limits; }

  // Takes from the front of `input`; call until kNeedMore or kIllegal.
  PduEvent next(ConstBytes& input);

  const PduHeader& header() const { return header_; }  // of the present PDU
  uint32_t data_bytes() const { return data_bytes_; }  // its data, without digest
  uint32_t data_left() const { return phase_ == Phase::kData ? data_bytes_ - data_taken_ : 0; }
  const Violation& violation() const { return violation_; }
  ConstBytes illegal_header() const { return ConstBytes(kept_).first(kept_bytes_); }
  uint64_t digest_errors() const { return digest_errors_; }
  bool between_pdus() const { return phase_ == Phase::kHeader && kept_bytes_ == 0; }

 private:
  enum class Phase : uint8_t { kHeader, kData, kDigest, kIllegal };

  bool check_common();
  bool check_type();
  bool check_lengths();
  bool check_head(ConstBytes head);
  bool check_fields(ConstBytes head);
  bool illegal(FatalError error, uint32_t information, const char* what);
  PduEvent refuse(ConstBytes seen);
  PduEvent begin(ConstBytes head);
  PduEvent finish();
  size_t keep(ConstBytes& input, size_t until);

  Role role_;
  ReaderLimits limits_;
  PduFormat format_;
  bool negotiated_ = false;
  Phase phase_ = Phase::kHeader;
  PduHeader header_;
  uint32_t head_bytes_ = 0;  // header, digest, padding
  uint32_t data_bytes_ = 0;
  uint32_t data_taken_ = 0;
  uint32_t data_crc_ = 0;
  size_t kept_bytes_ = 0;
  std::array<std::byte, 256> kept_{};
  Violation violation_;
  uint64_t digest_errors_ = 0;
};

}  // namespace bb::io::nvme
