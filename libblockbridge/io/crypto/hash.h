// SPDX-License-Identifier: Apache-2.0
// pure: SHA-2, HMAC and HKDF as values
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "io/crypto/secret.h"

namespace bb::io {

// The numbers are those of DH-HMAC-CHAP and of NVMe/TCP's pre-shared keys.
enum class Hash : uint8_t { kSha256 = 1, kSha384 = 2, kSha512 = 3 };

size_t hash_bytes(Hash hash);
std::string_view hash_name(Hash hash);  // "SHA-256"

Secret hash_of(Hash hash, ConstBytes data);
Secret hmac_of(Hash hash, ConstBytes key, std::initializer_list<ConstBytes> parts);

// RFC 5869 and RFC 8446 §7.1. `length_bytes` is at most 255 hashes.
Secret hkdf_extract(Hash hash, ConstBytes salt, ConstBytes input);
Secret hkdf_expand(Hash hash, ConstBytes key, ConstBytes info, size_t length_bytes);
Secret hkdf_expand_label(Hash hash, ConstBytes key, std::string_view label, ConstBytes context,
                         size_t length_bytes);

}  // namespace bb::io
