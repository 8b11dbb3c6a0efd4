// SPDX-License-Identifier: Apache-2.0
#include "base/crc32.h"

#include <isa-l/crc.h>

namespace bb {

uint32_t crc32(ConstBytes bytes, uint32_t before) {
  if (bytes.empty()) return before;
  return crc32_gzip_refl(before, reinterpret_cast<const unsigned char*>(bytes.data()),
                         bytes.size());
}

}  // namespace bb
