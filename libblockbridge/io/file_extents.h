// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "io/device.h"

namespace bb::io {

// Asks the file system, which may have to read its metadata: never on the loop's thread. What it
// cannot tell (a block device, an old file system) is data.
std::vector<Extent> file_extents(int fd, uint64_t offset_bytes, uint64_t end_bytes, uint32_t limit,
                                 uint64_t block_bytes);

}  // namespace bb::io
