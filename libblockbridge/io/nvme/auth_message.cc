// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_message.h"

#include <algorithm>

#include "base/check.h"

namespace bb::io::nvme {
namespace {

enum class Kind : uint16_t {  // AUTH_TYPE in the low byte, AUTH_ID in the high one
  kNegotiate = 0x0000,
  kFailure2 = 0xf000,
  kFailure1 = 0xf100,
  kChallenge = 0x0101,
  kReply = 0x0201,
  kSuccess1 = 0x0301,
  kSuccess2 = 0x0401,
};

constexpr size_t kHeaderBytes = 8;  // of a negotiation; and the whole of a failure
constexpr size_t kProtocolBytes = 64;
constexpr size_t kListAt = 4;  // in a protocol's descriptor: 30 hashes, then 30 groups
constexpr size_t kListMax = 30;
constexpr size_t kValueAt = 16;  // challenge, reply, success 1
constexpr uint8_t kDhHmacChap = 0x01;
constexpr uint8_t kReasonFailed = 0x01;

uint8_t byte_at(ConstBytes bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

Status too_short(std::string_view name, size_t have, size_t need) {
  return error(Code::k_invalid_argument, "{} of {} bytes, needed are {}", name, have, need);
}

bool known_hash(uint8_t id) { return id >= 1 && id <= 3; }
bool known_length(size_t length) { return length == 32 || length == 48 || length == 64; }

std::vector<std::byte> part(ConstBytes bytes, size_t at, size_t length) {
  ConstBytes found = bytes.subspan(at, length);
  return {found.begin(), found.end()};
}

uint16_t transaction_of(ConstBytes bytes) { return load_le<uint16_t>(bytes.data() + 4); }

// What of the lists nobody knows is passed over: newer hosts offer more.
Result<AuthMessage> decode_negotiate(ConstBytes bytes) {
  AuthNegotiate message{.transaction = transaction_of(bytes), .secure_channel = byte_at(bytes, 6)};
  size_t protocols = byte_at(bytes, 7);
  size_t need = kHeaderBytes + protocols * kProtocolBytes;
  if (protocols == 0) {
    return error(Code::k_invalid_argument, "AUTH_Negotiate without a protocol");
  }
  if (bytes.size() < need) return too_short("AUTH_Negotiate", bytes.size(), need);
  for (size_t i = 0; i < protocols; ++i) {
    ConstBytes descriptor = bytes.subspan(kHeaderBytes + i * kProtocolBytes, kProtocolBytes);
    if (byte_at(descriptor, 0) != kDhHmacChap) continue;
    size_t hashes = byte_at(descriptor, 2);
    size_t groups = byte_at(descriptor, 3);
    if (hashes > kListMax || groups > kListMax) {
      return error(Code::k_invalid_argument,
                   "AUTH_Negotiate with {} hashes and {} groups, at most {}", hashes, groups,
                   kListMax);
    }
    for (size_t n = 0; n < hashes; ++n) {
      uint8_t id = byte_at(descriptor, kListAt + n);
      if (known_hash(id)) message.hashes.push_back(static_cast<Hash>(id));
    }
    for (size_t n = 0; n < groups; ++n) {
      uint8_t id = byte_at(descriptor, kListAt + kListMax + n);
      if (id <= static_cast<uint8_t>(DhGroup::kFfdhe8192)) {
        message.groups.push_back(static_cast<DhGroup>(id));
      }
    }
    break;
  }
  return AuthMessage(std::move(message));
}

Result<AuthMessage> decode_challenge(ConstBytes bytes) {
  if (bytes.size() < kValueAt) return too_short("Challenge", bytes.size(), kValueAt);
  uint8_t hash = byte_at(bytes, 8);
  uint8_t group = byte_at(bytes, 9);
  size_t length = byte_at(bytes, 6);
  size_t dh = load_le<uint16_t>(bytes.data() + 10);
  if (!known_hash(hash) || length != hash_bytes(static_cast<Hash>(hash))) {
    return error(Code::k_invalid_argument, "a challenge of {} bytes with hash {}", length, hash);
  }
  if (group > static_cast<uint8_t>(DhGroup::kFfdhe8192) ||
      dh != dh_bytes(static_cast<DhGroup>(group))) {
    return error(Code::k_invalid_argument, "a challenge with {} bytes for group {}", dh, group);
  }
  if (bytes.size() < kValueAt + length + dh) {
    return too_short("Challenge", bytes.size(), kValueAt + length + dh);
  }
  return AuthMessage(AuthChallenge{.transaction = transaction_of(bytes),
                                   .hash = static_cast<Hash>(hash),
                                   .group = static_cast<DhGroup>(group),
                                   .sequence = load_le<uint32_t>(bytes.data() + 12),
                                   .challenge = part(bytes, kValueAt, length),
                                   .dh_value = part(bytes, kValueAt + length, dh)});
}

Result<AuthMessage> decode_reply(ConstBytes bytes) {
  if (bytes.size() < kValueAt) return too_short("Reply", bytes.size(), kValueAt);
  size_t length = byte_at(bytes, 6);
  size_t dh = load_le<uint16_t>(bytes.data() + 10);
  if (!known_length(length)) {
    return error(Code::k_invalid_argument, "a reply with a response of {} bytes", length);
  }
  size_t need = kValueAt + 2 * length + dh;
  if (bytes.size() < need) return too_short("Reply", bytes.size(), need);
  AuthReply reply{.transaction = transaction_of(bytes),
                  .sequence = load_le<uint32_t>(bytes.data() + 12),
                  .response = part(bytes, kValueAt, length),
                  .dh_value = part(bytes, kValueAt + 2 * length, dh)};
  if (byte_at(bytes, 8) == 1) reply.challenge = part(bytes, kValueAt + length, length);
  return AuthMessage(std::move(reply));
}

Result<AuthMessage> decode_success1(ConstBytes bytes) {
  if (bytes.size() < kValueAt) return too_short("Success1", bytes.size(), kValueAt);
  AuthSuccess1 message{.transaction = transaction_of(bytes), .hash_length = byte_at(bytes, 6)};
  size_t length = message.hash_length;
  if (byte_at(bytes, 8) != 1) return AuthMessage(std::move(message));
  if (!known_length(length)) {
    return error(Code::k_invalid_argument, "a success with a response of {} bytes", length);
  }
  if (bytes.size() < kValueAt + length) {
    return too_short("Success1", bytes.size(), kValueAt + length);
  }
  message.response = part(bytes, kValueAt, length);
  return AuthMessage(std::move(message));
}

Result<AuthMessage> decode_failure(ConstBytes bytes, bool from_host) {
  uint8_t fault = byte_at(bytes, 7);
  bool known = fault >= 1 && fault <= static_cast<uint8_t>(AuthFault::kIncorrectMessage);
  return AuthMessage(
      AuthFailure{.from_host = from_host,
                  .transaction = transaction_of(bytes),
                  .fault = known ? static_cast<AuthFault>(fault) : AuthFault::kFailed});
}

std::vector<std::byte> header(Kind kind, uint16_t transaction, size_t length) {
  std::vector<std::byte> out(length);
  store_le<uint16_t>(out.data(), static_cast<uint16_t>(kind));
  store_le<uint16_t>(out.data() + 4, transaction);
  return out;
}

void put(std::vector<std::byte>& out, size_t at, ConstBytes bytes) {
  std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(at));
}

std::vector<std::byte> encode(const AuthNegotiate& m) {
  BB_CHECK(m.hashes.size() <= kListMax && m.groups.size() <= kListMax, "lists too long");
  auto out = header(Kind::kNegotiate, m.transaction, kHeaderBytes + kProtocolBytes);
  out[6] = static_cast<std::byte>(m.secure_channel);
  out[7] = std::byte{1};
  std::byte* descriptor = out.data() + kHeaderBytes;
  descriptor[0] = std::byte{kDhHmacChap};
  descriptor[2] = static_cast<std::byte>(m.hashes.size());
  descriptor[3] = static_cast<std::byte>(m.groups.size());
  for (size_t i = 0; i < m.hashes.size(); ++i) {
    descriptor[kListAt + i] = static_cast<std::byte>(m.hashes[i]);
  }
  for (size_t i = 0; i < m.groups.size(); ++i) {
    descriptor[kListAt + kListMax + i] = static_cast<std::byte>(m.groups[i]);
  }
  return out;
}

std::vector<std::byte> encode(const AuthChallenge& m) {
  size_t length = m.challenge.size();
  auto out = header(Kind::kChallenge, m.transaction, kValueAt + length + m.dh_value.size());
  out[6] = static_cast<std::byte>(length);
  out[8] = static_cast<std::byte>(m.hash);
  out[9] = static_cast<std::byte>(m.group);
  store_le<uint16_t>(out.data() + 10, static_cast<uint16_t>(m.dh_value.size()));
  store_le<uint32_t>(out.data() + 12, m.sequence);
  put(out, kValueAt, m.challenge);
  put(out, kValueAt + length, m.dh_value);
  return out;
}

std::vector<std::byte> encode(const AuthReply& m) {
  size_t length = m.response.size();
  BB_CHECK(m.challenge.empty() || m.challenge.size() == length, "challenge and response differ");
  auto out = header(Kind::kReply, m.transaction, kValueAt + 2 * length + m.dh_value.size());
  out[6] = static_cast<std::byte>(length);
  out[8] = static_cast<std::byte>(m.challenge.empty() ? 0 : 1);
  store_le<uint16_t>(out.data() + 10, static_cast<uint16_t>(m.dh_value.size()));
  store_le<uint32_t>(out.data() + 12, m.sequence);
  put(out, kValueAt, m.response);
  put(out, kValueAt + length, m.challenge);
  put(out, kValueAt + 2 * length, m.dh_value);
  return out;
}

std::vector<std::byte> encode(const AuthSuccess1& m) {
  size_t length = m.response.empty() ? m.hash_length : m.response.size();
  auto out = header(Kind::kSuccess1, m.transaction, kValueAt + length);
  out[6] = static_cast<std::byte>(length);
  out[8] = static_cast<std::byte>(m.response.empty() ? 0 : 1);
  put(out, kValueAt, m.response);
  return out;
}

std::vector<std::byte> encode(const AuthSuccess2& m) {
  return header(Kind::kSuccess2, m.transaction, kValueAt);
}

std::vector<std::byte> encode(const AuthFailure& m) {
  auto out = header(m.from_host ? Kind::kFailure2 : Kind::kFailure1, m.transaction, kHeaderBytes);
  out[6] = std::byte{kReasonFailed};
  out[7] = static_cast<std::byte>(m.fault);
  return out;
}

}  // namespace

Result<AuthMessage> decode_auth(ConstBytes bytes) {
  if (bytes.size() < kHeaderBytes) {
    return too_short("an authentication message", bytes.size(), kHeaderBytes);
  }
  auto kind = load_le<uint16_t>(bytes.data());
  switch (static_cast<Kind>(kind)) {
    case Kind::kNegotiate:
      return decode_negotiate(bytes);
    case Kind::kChallenge:
      return decode_challenge(bytes);
    case Kind::kReply:
      return decode_reply(bytes);
    case Kind::kSuccess1:
      return decode_success1(bytes);
    case Kind::kSuccess2:
      return AuthMessage(AuthSuccess2{.transaction = transaction_of(bytes)});
    case Kind::kFailure1:
    case Kind::kFailure2:
      return decode_failure(bytes, static_cast<Kind>(kind) == Kind::kFailure2);
  }
  return error(Code::k_not_supported, "an authentication message of type {:#04x}, id {:#04x}",
               kind & 0xff, kind >> 8);
}

std::vector<std::byte> encode_auth(const AuthMessage& message) {
  return std::visit([](const auto& one) { return encode(one); }, message);
}

uint16_t auth_transaction(const AuthMessage& message) {
  return std::visit([](const auto& one) { return one.transaction; }, message);
}

std::string_view auth_name(const AuthMessage& message) {
  constexpr std::string_view kNames[] = {"AUTH_Negotiate", "DH-HMAC-CHAP_Challenge",
                                         "DH-HMAC-CHAP_Reply", "DH-HMAC-CHAP_Success1",
                                         "DH-HMAC-CHAP_Success2"};
  const auto* failure = std::get_if<AuthFailure>(&message);
  if (failure != nullptr) return failure->from_host ? "AUTH_Failure2" : "AUTH_Failure1";
  return kNames[message.index()];
}

std::string_view auth_fault_text(AuthFault fault) {
  switch (fault) {
    case AuthFault::kFailed:
      return "authentication failed";
    case AuthFault::kProtocolUnusable:
      return "authentication protocol not usable";
    case AuthFault::kConcatenationMismatch:
      return "secure channel concatenation mismatch";
    case AuthFault::kHashUnusable:
      return "hash not usable";
    case AuthFault::kDhGroupUnusable:
      return "DH group not usable";
    case AuthFault::kIncorrectPayload:
      return "incorrect payload";
    case AuthFault::kIncorrectMessage:
      return "incorrect protocol message";
  }
  return "authentication failed";
}

}  // namespace bb::io::nvme
