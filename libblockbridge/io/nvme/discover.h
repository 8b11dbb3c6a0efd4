// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "io/context.h"
#include "io/nvme/log_page.h"
#include "io/nvme/pdu.h"

namespace bb::io::nvme {

// What the discovery controller at `address` (host:port) tells this host.
Task<Result<std::vector<DiscoveryEntry>>> discover(Context context, std::string address,
                                                   std::string host_nqn, Digests digests = {},
                                                   uint64_t timeout_ns = 5'000'000'000);

}  // namespace bb::io::nvme
