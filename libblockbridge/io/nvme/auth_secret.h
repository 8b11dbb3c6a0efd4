// SPDX-License-Identifier: Apache-2.0
// pure: the secrets of DH-HMAC-CHAP as they are written down, and what is made of them
#pragma once

#include <optional>
#include <string_view>

#include "base/status.h"
#include "io/crypto/hash.h"

namespace bb::io::nvme {

// A secret in the representation of base 2.0 §8.13.5.8, "DHHC-1:hh:base64(secret || CRC-32):", as
// `nvme gen-dhchap-key` prints it.
struct AuthSecret {
  std::optional<Hash> transform;  // hh; none: the secret is used as it is
  Secret key;                     // 32, 48 or 64 bytes

  // One line, a line end may follow. INVALID_ARGUMENT, CORRUPT (the checksum); no error text
  // contains any of it.
  static Result<AuthSecret> parse(std::string_view text);
  std::string to_string() const;

  // The key that the messages of the one called `nqn` are authenticated with (§8.13.5.7).
  Secret key_of(std::string_view nqn) const;
};

}  // namespace bb::io::nvme
