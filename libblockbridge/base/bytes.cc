// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

namespace bb {

bool all_zero(ConstBytes bytes) {
  // Compares the buffer with itself shifted by one: memcmp does the fast part.
  if (bytes.empty()) return true;
  if (bytes[0] != std::byte{0}) return false;
  return std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace bb
