// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"

namespace bb::io {

// file:/path[?direct=auto|1|0&size=1G&create=1&read_only=1&lock=1]: a regular file or a block
// device. direct=auto uses O_DIRECT where the file system can. The file is locked (flock) against a
// second opener unless lock=0. create=1 with size makes a missing file; an existing one must have
// that size.
Task<Result<std::unique_ptr<Device>>> open_file_device(Context context, Uri uri, std::string text);

}  // namespace bb::io
