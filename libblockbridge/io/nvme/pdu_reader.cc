// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/pdu_reader.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"

namespace bb::io::nvme {
namespace {

// Byte offsets of header fields, as a termination request names them.
constexpr uint32_t kAtType = 0;
constexpr uint32_t kAtFlags = 1;
constexpr uint32_t kAtHlen = 2;
constexpr uint32_t kAtPdo = 3;
constexpr uint32_t kAtPlen = 4;
constexpr uint32_t kAtVersion = 8;
constexpr uint32_t kAtAlignment = 10;
constexpr uint32_t kAtDataOffset = 12;
constexpr uint32_t kAtDataLength = 16;

struct Shape {
  uint8_t hlen;
  bool may_have_data;
  bool must_have_data;
};

Shape shape_of(PduType type) {
  switch (type) {
    case PduType::kIcReq:
    case PduType::kIcResp:
      return {kIcBytes, false, false};
    case PduType::kH2cTermReq:
    case PduType::kC2hTermReq:
      return {kTermHeaderBytes, false, false};
    case PduType::kCapsuleCmd:
      return {kCapsuleCmdHeaderBytes, true, false};
    case PduType::kCapsuleResp:
      return {kCapsuleRespHeaderBytes, false, false};
    case PduType::kH2cData:
    case PduType::kC2hData:
      return {kDataHeaderBytes, true, true};
    case PduType::kR2t:
      return {kR2tHeaderBytes, false, false};
  }
  return {0, false, false};
}

bool reads(Role role, PduType type) {
  switch (type) {
    case PduType::kIcReq:
    case PduType::kH2cTermReq:
    case PduType::kCapsuleCmd:
    case PduType::kH2cData:
      return role == Role::kController;
    case PduType::kIcResp:
    case PduType::kC2hTermReq:
    case PduType::kCapsuleResp:
    case PduType::kC2hData:
    case PduType::kR2t:
      return role == Role::kHost;
  }
  return false;
}

bool is_ic(PduType type) { return type == PduType::kIcReq || type == PduType::kIcResp; }
bool is_term(PduType type) { return type == PduType::kH2cTermReq || type == PduType::kC2hTermReq; }
bool is_data(PduType type) { return type == PduType::kH2cData || type == PduType::kC2hData; }

}  // namespace

bool PduReader::illegal(FatalError error, uint32_t information, const char* what) {
  violation_ = {.error = error, .information = information, .what = what};
  return false;
}

bool PduReader::check_type() {
  if (!reads(role_, header_.type)) {
    return illegal(FatalError::kInvalidHeaderField, kAtType, "a PDU type nobody sends us");
  }
  if (is_ic(header_.type) == negotiated_ && !is_term(header_.type)) {
    return illegal(FatalError::kSequence, kAtType,
                   negotiated_ ? "a second connection initialisation"
                               : "a PDU before the connection was initialised");
  }
  return true;
}

// With the eight common bytes at hand: is this a PDU we can take, and how long is its head?
bool PduReader::check_common() {
  data_bytes_ = 0;
  data_taken_ = 0;
  data_crc_ = 0;
  if (!check_type()) return false;
  if (header_.hlen != shape_of(header_.type).hlen) {
    return illegal(FatalError::kInvalidHeaderField, kAtHlen, "a wrong header length");
  }
  return check_lengths();
}

bool PduReader::check_lengths() {
  constexpr auto kField = FatalError::kInvalidHeaderField;
  if (is_ic(header_.type)) {
    head_bytes_ = kIcBytes;
    return header_.plen == kIcBytes || illegal(kField, kAtPlen, "a wrong PDU length");
  }
  if (is_term(header_.type)) {
    head_bytes_ = header_.plen;
    bool fits =
        header_.plen >= kTermHeaderBytes && header_.plen <= kTermHeaderBytes + kTermDataMaxBytes;
    return fits || illegal(kField, kAtPlen, "a wrong PDU length");
  }
  Shape shape = shape_of(header_.type);
  bool header_digest = (header_.flags & kFlagHeaderDigest) != 0;
  bool data_digest = (header_.flags & kFlagDataDigest) != 0;
  if (header_digest != format_.digests.header) {
    return illegal(kField, kAtFlags, "a header digest flag other than negotiated");
  }
  head_bytes_ = header_.hlen + (header_digest ? static_cast<uint32_t>(kDigestBytes) : 0);
  if (header_.plen < head_bytes_) return illegal(kField, kAtPlen, "a PDU shorter than its header");
  if (header_.plen == head_bytes_ && !shape.must_have_data) return true;
  if (!shape.may_have_data) return illegal(kField, kAtPlen, "data in a PDU that has none");
  if (data_digest != format_.digests.data) {
    return illegal(kField, kAtFlags, "a data digest flag other than negotiated");
  }
  if (header_.pdo < head_bytes_ || header_.pdo % format_.alignment_bytes != 0) {
    return illegal(kField, kAtPdo, "a data offset within the header or off the alignment");
  }
  uint64_t around = uint64_t{header_.pdo} + (data_digest ? kDigestBytes : 0);
  if (header_.plen <= around) return illegal(kField, kAtPlen, "a PDU that ends before its data");
  head_bytes_ = header_.pdo;
  data_bytes_ = static_cast<uint32_t>(header_.plen - around);
  if (is_data(header_.type)) {
    return data_bytes_ <= limits_.data_pdu_max_bytes ||
           illegal(FatalError::kLimitExceeded, kAtPlen, "more data than one PDU may carry");
  }
  return data_bytes_ <= limits_.capsule_data_max_bytes ||
         illegal(kField, kAtPlen, "more data than a capsule may carry");
}

bool PduReader::check_head(ConstBytes head) {
  if (format_.digests.header && !is_ic(header_.type) && !is_term(header_.type)) {
    uint32_t received = load_digest(head.data() + header_.hlen);
    if (crc32c(head.first(header_.hlen)) != received) {
      ++digest_errors_;
      return illegal(FatalError::kHeaderDigest, received, "a wrong header digest");
    }
  }
  return check_fields(head);
}

bool PduReader::check_fields(ConstBytes head) {
  constexpr auto kField = FatalError::kInvalidHeaderField;
  if (is_ic(header_.type)) {
    if (load_le<uint16_t>(head.data() + kAtVersion) != 0) {
      return illegal(FatalError::kUnsupportedParameter, kAtVersion,
                     "an unknown PDU format version");
    }
    if (static_cast<uint8_t>(head[kAtAlignment]) >= kAlignmentMaxBytes / 4) {
      return illegal(kField, kAtAlignment, "a data alignment above 128 bytes");
    }
    if (header_.type == PduType::kIcResp) {
      uint32_t most = IcResp::decode(head).h2c_data_max_bytes;
      if (most < 4096 || most % 4 != 0) {
        return illegal(kField, 12, "a MAXH2CDATA below 4096 or not in dwords");
      }
    }
  }
  if (is_data(header_.type)) {
    DataHeader data = DataHeader::decode(head, header_.flags);
    if (data.length_bytes != data_bytes_) {
      return illegal(kField, kAtDataLength, "a data length that does not fit the PDU length");
    }
    if (data.offset_bytes % 4 != 0)
      return illegal(kField, kAtDataOffset, "a data offset off dwords");
    if (data.success && !data.last) {
      return illegal(kField, kAtFlags, "a success flag before the last data");
    }
  }
  return true;
}

PduEvent PduReader::refuse(ConstBytes seen) {
  if (seen.data() != kept_.data()) {
    kept_bytes_ = std::min(seen.size(), kept_.size());
    std::memcpy(kept_.data(), seen.data(), kept_bytes_);
  }
  kept_bytes_ =
      std::min<size_t>({kept_bytes_, kTermDataMaxBytes, std::max<size_t>(header_.hlen, 8)});
  phase_ = Phase::kIllegal;
  return {.kind = PduEvent::Kind::kIllegal};
}

PduEvent PduReader::begin(ConstBytes head) {
  if (!check_head(head)) return refuse(head);
  kept_bytes_ = 0;
  if (data_bytes_ > 0) phase_ = Phase::kData;
  return {.kind = PduEvent::Kind::kHeader,
          .bytes = is_term(header_.type) ? head : head.first(header_.hlen)};
}

PduEvent PduReader::finish() {
  phase_ = Phase::kHeader;
  PduEvent event{.kind = PduEvent::Kind::kEnd};
  if (format_.digests.data) {
    event.digest_ok = load_digest(kept_.data()) == data_crc_;
    if (!event.digest_ok) ++digest_errors_;
  }
  kept_bytes_ = 0;
  return event;
}

// Fills kept_ up to `until` bytes; returns what is still missing.
size_t PduReader::keep(ConstBytes& input, size_t until) {
  BB_CHECK(until <= kept_.size(), "a header of {} bytes", until);
  size_t take = std::min(input.size(), until - kept_bytes_);
  if (take > 0) std::memcpy(kept_.data() + kept_bytes_, input.data(), take);
  kept_bytes_ += take;
  input = input.subspan(take);
  return until - kept_bytes_;
}

PduEvent PduReader::next(ConstBytes& input) {
  switch (phase_) {
    case Phase::kIllegal:
      return {.kind = PduEvent::Kind::kIllegal};
    case Phase::kHeader: {
      if (kept_bytes_ == 0 && input.size() >= kCommonHeaderBytes) {
        header_ = PduHeader::decode(input.data());
        if (!check_common()) return refuse(input);
        if (input.size() >= head_bytes_) {  // the usual case: nothing to keep
          ConstBytes head = input.first(head_bytes_);
          input = input.subspan(head_bytes_);
          return begin(head);
        }
      }
      if (kept_bytes_ < kCommonHeaderBytes) {
        if (keep(input, kCommonHeaderBytes) > 0) return {};
        header_ = PduHeader::decode(kept_.data());
        if (!check_common()) return refuse(ConstBytes(kept_).first(kept_bytes_));
      }
      if (keep(input, head_bytes_) > 0) return {};
      return begin(ConstBytes(kept_).first(head_bytes_));
    }
    case Phase::kData: {
      if (input.empty()) return {};
      size_t take = std::min<size_t>(input.size(), data_bytes_ - data_taken_);
      PduEvent event{
          .kind = PduEvent::Kind::kData, .offset_bytes = data_taken_, .bytes = input.first(take)};
      if (format_.digests.data) data_crc_ = crc32c(event.bytes, data_crc_);
      data_taken_ += static_cast<uint32_t>(take);
      input = input.subspan(take);
      if (data_taken_ == data_bytes_) phase_ = Phase::kDigest;
      return event;
    }
    case Phase::kDigest:
      if (format_.digests.data && keep(input, kDigestBytes) > 0) return {};
      return finish();
  }
  return {};
}

}  // namespace bb::io::nvme
