// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/auth_secret.h"

#include <fmt/format.h>

#include "base/crc32.h"

namespace bb::io::nvme {
namespace {

constexpr std::string_view kPrefix = "DHHC-1:";
constexpr size_t kHeadBytes = kPrefix.size() + 3;  // and "hh:"
constexpr size_t kCrcBytes = 4;
constexpr size_t kTextMaxBytes = 128;  // 64 + 4 bytes in base64 need 92
constexpr std::string_view kAfterNqn = "NVMe-over-Fabrics";

bool good_length(size_t length) { return length == 32 || length == 48 || length == 64; }

}  // namespace

Result<AuthSecret> AuthSecret::parse(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  if (text.size() > kTextMaxBytes) {
    return error(Code::k_invalid_argument, "a DH-HMAC-CHAP secret of {} characters, at most {}",
                 text.size(), kTextMaxBytes);
  }
  if (text.size() < kHeadBytes + 1 || !text.starts_with(kPrefix) || text[kHeadBytes - 1] != ':' ||
      !text.ends_with(':')) {
    return error(Code::k_invalid_argument,
                 "not a DH-HMAC-CHAP secret: expected DHHC-1:hh:base64: in one line");
  }
  char low = text[kPrefix.size() + 1];
  if (text[kPrefix.size()] != '0' || low < '0' || low > '3') {
    return error(Code::k_invalid_argument,
                 "a DH-HMAC-CHAP secret with an unknown hash: known are 00, 01, 02 and 03");
  }
  Secret decoded;
  if (!base64_decode(text.substr(kHeadBytes, text.size() - kHeadBytes - 1), decoded)) {
    return error(Code::k_invalid_argument, "a DH-HMAC-CHAP secret that is not base64");
  }
  if (decoded.size() < kCrcBytes || !good_length(decoded.size() - kCrcBytes)) {
    return error(Code::k_invalid_argument,
                 "a DH-HMAC-CHAP secret of {} bytes, expected are 32, 48 or 64 and a checksum of 4",
                 decoded.size());
  }
  size_t length = decoded.size() - kCrcBytes;
  if (crc32(decoded.bytes().first(length)) != load_le<uint32_t>(decoded.data() + length)) {
    return error(Code::k_corrupt, "a DH-HMAC-CHAP secret whose checksum is wrong: mistyped?");
  }
  decoded.shorten(length);
  AuthSecret secret{.key = std::move(decoded)};
  if (low != '0') secret.transform = static_cast<Hash>(low - '0');
  return secret;
}

std::string AuthSecret::to_string() const {
  Secret with_crc(key.size() + kCrcBytes);
  std::memcpy(with_crc.data(), key.data(), key.size());
  store_le<uint32_t>(with_crc.data() + key.size(), crc32(key.bytes()));
  return fmt::format("{}{:02x}:{}:", kPrefix, transform ? static_cast<int>(*transform) : 0,
                     base64_encode(with_crc.bytes()));
}

Secret AuthSecret::key_of(std::string_view nqn) const {
  if (!transform) return key;
  return hmac_of(*transform, key.bytes(), {as_bytes(nqn), as_bytes(kAfterNqn)});
}

}  // namespace bb::io::nvme
