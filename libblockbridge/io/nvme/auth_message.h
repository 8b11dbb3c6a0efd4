// SPDX-License-Identifier: Apache-2.0
// pure: the messages of in-band authentication, NVMe base 2.0 §8.13.2 to §8.13.5
#pragma once

#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "io/crypto/dh.h"
#include "io/crypto/hash.h"

namespace bb::io::nvme {

// The security protocol that Authentication Send and Receive carry: SECP, SPSP1 and SPSP0 in CDW10.
inline constexpr uint32_t kAuthProtocol = 0xe9'01'01'00;
// The longest message: a challenge or a reply with the 8192-bit group is 16 + 2 * 64 + 1024 bytes.
inline constexpr size_t kAuthMessageMaxBytes = 4096;

// Why an authentication failed, base 2.0 §8.13.5.6: the explanations of reason "authentication
// failed".
enum class AuthFault : uint8_t {
  kFailed = 0x01,
  kProtocolUnusable = 0x02,
  kConcatenationMismatch = 0x03,
  kHashUnusable = 0x04,
  kDhGroupUnusable = 0x05,
  kIncorrectPayload = 0x06,
  kIncorrectMessage = 0x07,
};
std::string_view auth_fault_text(AuthFault fault);

struct AuthNegotiate {
  uint16_t transaction = 0;
  uint8_t secure_channel = 0;  // 0: no TLS is to follow
  std::vector<Hash> hashes;    // what the host can, its favourite first
  std::vector<DhGroup> groups;
};

struct AuthChallenge {
  uint16_t transaction = 0;
  Hash hash = Hash::kSha256;
  DhGroup group = DhGroup::kNull;
  uint32_t sequence = 0;             // S1
  std::vector<std::byte> challenge;  // C1, as long as the hash
  std::vector<std::byte> dh_value;
};

struct AuthReply {
  uint16_t transaction = 0;
  uint32_t sequence = 0;             // S2
  std::vector<std::byte> response;   // R1, as long as the hash
  std::vector<std::byte> challenge;  // C2, likewise; empty: the controller need not prove itself
  std::vector<std::byte> dh_value;
};

struct AuthSuccess1 {
  uint16_t transaction = 0;
  uint8_t hash_length = 0;
  std::vector<std::byte> response;  // R2; empty: none was asked for
};

struct AuthSuccess2 {
  uint16_t transaction = 0;
};

// AUTH_Failure1 comes from the controller, AUTH_Failure2 from the host.
struct AuthFailure {
  bool from_host = false;
  uint16_t transaction = 0;
  AuthFault fault = AuthFault::kFailed;
};

using AuthMessage =
    std::variant<AuthNegotiate, AuthChallenge, AuthReply, AuthSuccess1, AuthSuccess2, AuthFailure>;

// Bytes behind the message do not matter: a buffer may be longer. NOT_SUPPORTED: a message of a
// type nobody knows; INVALID_ARGUMENT: too short, or a field that may not be so.
Result<AuthMessage> decode_auth(ConstBytes bytes);
std::vector<std::byte> encode_auth(const AuthMessage& message);
uint16_t auth_transaction(const AuthMessage& message);
std::string_view auth_name(const AuthMessage& message);  // "AUTH_Negotiate"

}  // namespace bb::io::nvme
