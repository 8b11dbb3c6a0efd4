// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"

namespace bb::io {

// mem:SIZE[?block_size=4096]: memory that lives as long as the device is open.
Task<Result<std::unique_ptr<Device>>> open_mem_device(Context context, Uri uri, std::string text);

}  // namespace bb::io
