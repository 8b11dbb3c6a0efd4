// SPDX-License-Identifier: Apache-2.0
#include "io/tls_hello.h"

#include <algorithm>

namespace bb::io {

// PskIdentity identities<7..2^16-1>: each a length of two bytes, the identity, four bytes of age.
std::vector<std::string_view> offered_identities(ConstBytes extension) {
  constexpr size_t kLengthBytes = 2;
  constexpr size_t kAgeBytes = 4;
  std::vector<std::string_view> found;
  if (extension.size() < kLengthBytes) return found;
  size_t total = load_be<uint16_t>(extension.data());
  ConstBytes left = extension.subspan(kLengthBytes);
  left = left.first(std::min(left.size(), total));
  while (left.size() >= kLengthBytes && found.size() < kOfferedIdentitiesMax) {
    size_t length = load_be<uint16_t>(left.data());
    size_t whole = kLengthBytes + length + kAgeBytes;
    if (length == 0 || left.size() < whole) break;
    found.push_back(as_text(left.subspan(kLengthBytes, length)));
    left = left.subspan(whole);
  }
  return found;
}

}  // namespace bb::io
