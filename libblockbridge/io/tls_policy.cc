// SPDX-License-Identifier: Apache-2.0
#include "io/tls_policy.h"

namespace bb::io {

Result<TlsPolicy> parse_tls_policy(std::string_view option, std::string_view text) {
  if (text == "off") return TlsPolicy::kOff;
  if (text == "allowed") return TlsPolicy::kAllowed;
  if (text == "required") return TlsPolicy::kRequired;
  return error(Code::k_invalid_argument, "{}: \"{}\" is none of off, allowed, required", option,
               text);
}

}  // namespace bb::io
