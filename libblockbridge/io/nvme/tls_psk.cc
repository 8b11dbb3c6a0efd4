// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/tls_psk.h"

#include <fmt/format.h>

#include "base/crc32.h"
#include "io/nvme/command.h"

namespace bb::io::nvme {
namespace {

constexpr std::string_view kPrefix = "NVMeTLSkey-1:";
constexpr size_t kHeadBytes = kPrefix.size() + 3;  // and "hh:"
constexpr size_t kTextMaxBytes = 128;
constexpr size_t kIdentityMaxBytes = 255;

}  // namespace

std::optional<PskIdentity> PskIdentity::parse(std::string_view text) {
  constexpr std::string_view kStart = "NVMe0R0";
  if (text.size() < kStart.size() + 2 || !text.starts_with(kStart)) return std::nullopt;
  char hash = text[kStart.size()];
  if ((hash != '1' && hash != '2') || text[kStart.size() + 1] != ' ') return std::nullopt;
  text.remove_prefix(kStart.size() + 2);
  size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  PskIdentity identity{.hash = static_cast<Hash>(hash - '0'),
                       .host_nqn = std::string(text.substr(0, blank)),
                       .subsystem_nqn = std::string(text.substr(blank + 1))};
  bool good = check_nqn(identity.host_nqn).ok() && check_nqn(identity.subsystem_nqn).ok();
  return good ? std::optional(std::move(identity)) : std::nullopt;
}

std::string PskIdentity::to_string() const {
  return fmt::format("NVMe0R{:02} {} {}", static_cast<int>(hash), host_nqn, subsystem_nqn);
}

Result<PskSecret> PskSecret::parse(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  if (text.size() < kHeadBytes + 1 || text.size() > kTextMaxBytes || !text.starts_with(kPrefix) ||
      text[kHeadBytes - 1] != ':' || !text.ends_with(':')) {
    return error(Code::k_invalid_argument,
                 "not a key for NVMe/TCP with TLS: expected NVMeTLSkey-1:hh:base64: in one line");
  }
  char low = text[kPrefix.size() + 1];
  if (text[kPrefix.size()] != '0' || low < '0' || low > '2') {
    return error(Code::k_invalid_argument,
                 "a TLS key with an unknown hash: known are 00, 01 and 02");
  }
  Secret decoded;
  if (!base64_decode(text.substr(kHeadBytes, text.size() - kHeadBytes - 1), decoded)) {
    return error(Code::k_invalid_argument, "a TLS key that is not base64");
  }
  if (decoded.size() != 32 + 4 && decoded.size() != 48 + 4) {
    return error(Code::k_invalid_argument,
                 "a TLS key of {} bytes, expected are 32 or 48 and a checksum of 4",
                 decoded.size());
  }
  size_t length = decoded.size() - 4;
  if (crc32(decoded.bytes().first(length)) != load_le<uint32_t>(decoded.data() + length)) {
    return error(Code::k_corrupt, "a TLS key whose checksum is wrong: mistyped?");
  }
  decoded.shorten(length);
  PskSecret secret{.hash = std::nullopt, .key = std::move(decoded)};
  if (low != '0') secret.hash = static_cast<Hash>(low - '0');
  return secret;
}

Secret PskSecret::retained(std::string_view host_nqn) const {
  if (!hash) return key;
  return hkdf_expand_label(*hash, hkdf_extract(*hash, {}, key.bytes()).bytes(), "HostNQN",
                           as_bytes(host_nqn), key.size());
}

Result<Secret> PskSecret::tls_key(const PskIdentity& identity) const {
  std::string text = identity.to_string();
  if (text.size() > kIdentityMaxBytes) {
    return error(Code::k_invalid_argument,
                 "the names of host and subsystem make a TLS identity of {} bytes, at most {}",
                 text.size(), kIdentityMaxBytes);
  }
  Secret from = retained(identity.host_nqn);
  return hkdf_expand_label(identity.hash, hkdf_extract(identity.hash, {}, from.bytes()).bytes(),
                           "nvme-tls-psk", as_bytes(text), hash_bytes(identity.hash));
}

}  // namespace bb::io::nvme
