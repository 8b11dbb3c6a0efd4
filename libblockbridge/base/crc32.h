// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/bytes.h"

namespace bb {

// CRC-32 of zlib, Ethernet and PNG. `before` continues a checksum over earlier bytes.
uint32_t crc32(ConstBytes bytes, uint32_t before = 0);

}  // namespace bb
