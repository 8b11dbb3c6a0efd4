// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"

namespace bb::io {

// mem:SIZE[?block_size=4096][&huge_pages=1]: memory that lives as long as the device is open.
// With huge pages all of the memory is taken at once and kept; random access costs half the time.
Task<Result<std::unique_ptr<Device>>> open_mem_device(Context context, Uri uri, std::string text);

}  // namespace bb::io
