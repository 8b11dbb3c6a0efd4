// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace bb {

uint32_t crc32c(ConstBytes bytes, uint32_t before) {
  uint32_t state = ~before;
  while (!bytes.empty()) {
    size_t length = std::min<size_t>(bytes.size(), 1 << 30);  // ISA-L takes an int
    auto* from = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    state = crc32_iscsi(from, static_cast<int>(length), state);
    bytes = bytes.subspan(length);
  }
  return ~state;
}

uint32_t crc32c_around(ConstBytes bytes, size_t at) {
  constexpr std::byte kZeroes[4]{};
  uint32_t crc = crc32c(bytes.first(at));
  crc = crc32c(kZeroes, crc);
  return crc32c(bytes.subspan(at + sizeof kZeroes), crc);
}

}  // namespace bb
