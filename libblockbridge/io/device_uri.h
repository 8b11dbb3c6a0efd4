// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"

namespace bb::io {

// Opens a device by URI: file:/path?direct=1, mem:1G, null:1T, fault:…,
// nvme-tcp://host:4420/NQN?nsid=1, nvme:/dev/ng0n1, nbd://host/export,
// nbd+unix:///export?socket=/path. INVALID_ARGUMENT for an unknown scheme or option, with the list
// of what there is.
Task<Result<std::unique_ptr<Device>>> open_device(Context context, std::string uri);

std::vector<std::string> device_schemes();

}  // namespace bb::io
