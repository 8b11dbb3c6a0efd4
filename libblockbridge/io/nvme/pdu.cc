// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/pdu.h"

#include <algorithm>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/units.h"

namespace bb::io::nvme {
namespace {

uint8_t digest_bits(Digests digests) {
  return static_cast<uint8_t>((digests.header ? 1u : 0u) | (digests.data ? 2u : 0u));
}

Digests digests_of(std::byte bits) {
  auto value = static_cast<uint8_t>(bits);
  return {.header = (value & 1u) != 0, .data = (value & 2u) != 0};
}

Bytes cleared(Bytes into, size_t length) {
  BB_CHECK(into.size() >= length, "a PDU needs {} bytes, there are {}", length, into.size());
  std::memset(into.data(), 0, length);
  return into.first(length);
}

// Finishes a PDU whose specific fields from byte 8 on are written: common header, digest, padding.
size_t finish(Bytes into, PduHeader header, uint32_t data_bytes, const PduFormat& format) {
  size_t end = header.hlen;
  if (format.digests.header) {
    header.flags |= kFlagHeaderDigest;
    end += kDigestBytes;
  }
  header.plen = static_cast<uint32_t>(end);
  if (data_bytes > 0) {
    header.pdo = data_offset(header.hlen, format);
    end = header.pdo;
    header.plen = static_cast<uint32_t>(end) + data_bytes;
    if (format.digests.data) {
      header.flags |= kFlagDataDigest;
      header.plen += kDigestBytes;
    }
  }
  header.encode(into.data());
  if (format.digests.header) {
    store_digest(into.data() + header.hlen, crc32c(into.first(header.hlen)));
  }
  return end;
}

size_t head_length(size_t hlen, uint32_t data_bytes, const PduFormat& format) {
  if (data_bytes > 0) return data_offset(hlen, format);
  return hlen + (format.digests.header ? kDigestBytes : 0);
}

size_t encode_data(Bytes into, PduType type, const DataHeader& data, const PduFormat& format) {
  into = cleared(into, head_length(kDataHeaderBytes, data.length_bytes, format));
  store_le<uint16_t>(into.data() + 8, data.command_id);
  store_le<uint16_t>(into.data() + 10, data.transfer_tag);
  store_le<uint32_t>(into.data() + 12, data.offset_bytes);
  store_le<uint32_t>(into.data() + 16, data.length_bytes);
  uint8_t flags = static_cast<uint8_t>((data.last ? kFlagDataLast : 0u) |
                                       (data.success ? kFlagDataSuccess : 0u));
  return finish(into, {.type = type, .flags = flags, .hlen = kDataHeaderBytes}, data.length_bytes,
                format);
}

}  // namespace

PduHeader PduHeader::decode(const std::byte* eight) {
  return {.type = static_cast<PduType>(eight[0]),
          .flags = static_cast<uint8_t>(eight[1]),
          .hlen = static_cast<uint8_t>(eight[2]),
          .pdo = static_cast<uint8_t>(eight[3]),
          .plen = load_le<uint32_t>(eight + 4)};
}

void PduHeader::encode(std::byte* eight) const {
  eight[0] = static_cast<std::byte>(type);
  eight[1] = static_cast<std::byte>(flags);
  eight[2] = static_cast<std::byte>(hlen);
  eight[3] = static_cast<std::byte>(pdo);
  store_le<uint32_t>(eight + 4, plen);
}

IcReq IcReq::decode(ConstBytes header) {
  uint32_t more = load_le<uint32_t>(header.data() + 12);
  return {.format_version = load_le<uint16_t>(header.data() + 8),
          .alignment_dwords = static_cast<uint8_t>(header[10]),
          .digests = digests_of(header[11]),
          .r2t_max = more == UINT32_MAX ? more : more + 1};
}

size_t IcReq::encode(Bytes into) const {
  BB_CHECK(r2t_max > 0, "an ICReq allows no R2T at all");
  into = cleared(into, kIcBytes);
  PduHeader{.type = PduType::kIcReq, .hlen = kIcBytes, .plen = kIcBytes}.encode(into.data());
  store_le<uint16_t>(into.data() + 8, format_version);
  into[10] = static_cast<std::byte>(alignment_dwords);
  into[11] = static_cast<std::byte>(digest_bits(digests));
  store_le<uint32_t>(into.data() + 12, r2t_max - 1);
  return kIcBytes;
}

IcResp IcResp::decode(ConstBytes header) {
  return {.format_version = load_le<uint16_t>(header.data() + 8),
          .alignment_dwords = static_cast<uint8_t>(header[10]),
          .digests = digests_of(header[11]),
          .h2c_data_max_bytes = load_le<uint32_t>(header.data() + 12)};
}

size_t IcResp::encode(Bytes into) const {
  into = cleared(into, kIcBytes);
  PduHeader{.type = PduType::kIcResp, .hlen = kIcBytes, .plen = kIcBytes}.encode(into.data());
  store_le<uint16_t>(into.data() + 8, format_version);
  into[10] = static_cast<std::byte>(alignment_dwords);
  into[11] = static_cast<std::byte>(digest_bits(digests));
  store_le<uint32_t>(into.data() + 12, h2c_data_max_bytes);
  return kIcBytes;
}

TermReq TermReq::decode(ConstBytes pdu) {
  return {.error = static_cast<FatalError>(load_le<uint16_t>(pdu.data() + 8)),
          .information = load_le<uint32_t>(pdu.data() + 10),
          .header = pdu.subspan(kTermHeaderBytes)};
}

size_t TermReq::encode(Bytes into, PduType type) const {
  BB_CHECK(type == PduType::kH2cTermReq || type == PduType::kC2hTermReq, "not a termination");
  size_t data = std::min(header.size(), kTermDataMaxBytes);
  into = cleared(into, kTermHeaderBytes + data);
  PduHeader{.type = type, .hlen = kTermHeaderBytes, .plen = static_cast<uint32_t>(into.size())}
      .encode(into.data());
  store_le<uint16_t>(into.data() + 8, static_cast<uint16_t>(error));
  store_le<uint32_t>(into.data() + 10, information);
  if (data > 0) std::memcpy(into.data() + kTermHeaderBytes, header.data(), data);
  return into.size();
}

DataHeader DataHeader::decode(ConstBytes header, uint8_t flags) {
  return {.command_id = load_le<uint16_t>(header.data() + 8),
          .transfer_tag = load_le<uint16_t>(header.data() + 10),
          .offset_bytes = load_le<uint32_t>(header.data() + 12),
          .length_bytes = load_le<uint32_t>(header.data() + 16),
          .last = (flags & kFlagDataLast) != 0,
          .success = (flags & kFlagDataSuccess) != 0};
}

R2t R2t::decode(ConstBytes header) {
  return {.command_id = load_le<uint16_t>(header.data() + 8),
          .transfer_tag = load_le<uint16_t>(header.data() + 10),
          .offset_bytes = load_le<uint32_t>(header.data() + 12),
          .length_bytes = load_le<uint32_t>(header.data() + 16)};
}

size_t R2t::encode(Bytes into, const PduFormat& format) const {
  into = cleared(into, head_length(kR2tHeaderBytes, 0, format));
  store_le<uint16_t>(into.data() + 8, command_id);
  store_le<uint16_t>(into.data() + 10, transfer_tag);
  store_le<uint32_t>(into.data() + 12, offset_bytes);
  store_le<uint32_t>(into.data() + 16, length_bytes);
  return finish(into, {.type = PduType::kR2t, .hlen = kR2tHeaderBytes}, 0, format);
}

uint8_t data_offset(size_t header_bytes, const PduFormat& format) {
  size_t end = header_bytes + (format.digests.header ? kDigestBytes : 0);
  return static_cast<uint8_t>(round_up(end, format.alignment_bytes));
}

size_t encode_capsule_cmd(Bytes into, ConstBytes sqe, uint32_t data_bytes,
                          const PduFormat& format) {
  into = cleared(into, head_length(kCapsuleCmdHeaderBytes, data_bytes, format));
  std::memcpy(into.data() + 8, sqe.data(), 64);
  return finish(into, {.type = PduType::kCapsuleCmd, .hlen = kCapsuleCmdHeaderBytes}, data_bytes,
                format);
}

size_t encode_capsule_resp(Bytes into, ConstBytes cqe, const PduFormat& format) {
  into = cleared(into, head_length(kCapsuleRespHeaderBytes, 0, format));
  std::memcpy(into.data() + 8, cqe.data(), 16);
  return finish(into, {.type = PduType::kCapsuleResp, .hlen = kCapsuleRespHeaderBytes}, 0, format);
}

size_t encode_h2c_data(Bytes into, const DataHeader& data, const PduFormat& format) {
  return encode_data(into, PduType::kH2cData, data, format);
}

size_t encode_c2h_data(Bytes into, const DataHeader& data, const PduFormat& format) {
  return encode_data(into, PduType::kC2hData, data, format);
}

}  // namespace bb::io::nvme
