// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/bytes.h"

namespace bb {

// CRC-32C (Castagnoli), RFC 3720 B.4 and NVMe/TCP digests: initial value and final xor 0xffffffff.
// crc32c("123456789") = 0xe3069283. `before` continues over a split buffer: pass the previous
// result.
uint32_t crc32c(ConstBytes bytes, uint32_t before = 0);

// As if the four bytes at `at` were zero: of a block that carries its own checksum there.
uint32_t crc32c_around(ConstBytes bytes, size_t at);

}  // namespace bb
