// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"

namespace bb::io {

// null:SIZE: reads as zeroes, forgets writes. For measuring what surrounds a device.
Task<Result<std::unique_ptr<Device>>> open_null_device(Context context, Uri uri, std::string text);

}  // namespace bb::io
