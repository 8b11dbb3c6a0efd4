// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <string_view>

#include "base/status.h"

namespace bb::io {

// Whether a peer may, or must, come by TLS.
enum class TlsPolicy : uint8_t { kOff, kAllowed, kRequired };

// "off", "allowed" or "required"; `option` is what an error calls it.
Result<TlsPolicy> parse_tls_policy(std::string_view option, std::string_view text);

}  // namespace bb::io
