// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/status.h"
#include "io/context.h"
#include "io/task.h"

namespace bb::backplane {

// What is on a file or block device already, in words: "ext4 filesystem", "gpt partition table",
// "" when nothing is known. BUSY when the kernel uses a block device (mounted, part of md or dm).
// Reads only.
io::Task<Result<std::string>> probe_contents(io::Context context, std::string path);

}  // namespace bb::backplane
