// SPDX-License-Identifier: Apache-2.0
// pure: what a server reads of a ClientHello before OpenSSL does
#pragma once

#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace bb::io {

// More than anybody offers: a client has one key for a server, perhaps under a few names.
inline constexpr size_t kOfferedIdentitiesMax = 8;

// The first identities of a pre_shared_key extension (RFC 8446 §4.2.11), within `extension`; as far
// as it is well-formed.
std::vector<std::string_view> offered_identities(ConstBytes extension);

}  // namespace bb::io
