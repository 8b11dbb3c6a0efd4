// SPDX-License-Identifier: Apache-2.0
// pure: pre-shared keys of NVMe/TCP, TCP transport 1.0 §3.6.1
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "io/crypto/hash.h"

namespace bb::io::nvme {

// Whose key it is: "NVMe0R01 HOSTNQN SUBSYSTEMNQN" (§3.6.1.3); 01 is SHA-256, 02 is SHA-384.
struct PskIdentity {
  Hash hash = Hash::kSha256;
  std::string host_nqn;
  std::string subsystem_nqn;

  static std::optional<PskIdentity> parse(std::string_view text);
  std::string to_string() const;
};

// A configured key in the interchange format (§3.6.1.2), "NVMeTLSkey-1:hh:base64(key || CRC-32):",
// as `nvme gen-tls-key` prints it.
struct PskSecret {
  std::optional<Hash> hash;  // hh, with which the retained key is derived; none: it is this one
  Secret key;                // 32 or 48 bytes, which settles the suite: SHA-256 or SHA-384

  // One line, a line end may follow. INVALID_ARGUMENT, CORRUPT (the checksum); no error text
  // contains any of it.
  static Result<PskSecret> parse(std::string_view text);

  Hash suite_hash() const { return key.size() == 48 ? Hash::kSha384 : Hash::kSha256; }
  Secret retained(std::string_view host_nqn) const;
  // The key for TLS. INVALID_ARGUMENT when the identity is longer than the 255 bytes that its
  // derivation can take.
  Result<Secret> tls_key(const PskIdentity& identity) const;
};

}  // namespace bb::io::nvme
