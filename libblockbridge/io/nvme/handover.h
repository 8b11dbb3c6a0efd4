// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "io/nvme/tls_psk.h"
#include "io/stream.h"

namespace bb::io::nvme {

// A connection on its way to the loop where the subsystem lives that its host named in Connect.
// What the host has said so far goes with it, and is said again there, to a queue that knows it had
// its ICResp: so nothing of a connection's state has to be carried over.
struct Handover {
  std::unique_ptr<Stream> stream;  // still on the loop it leaves, between operations
  std::vector<std::byte> received;
  std::optional<PskIdentity> tls_identity;
  uint16_t port = 0;  // that the host came by
  uint32_t home = 0;  // where it goes: SubsystemConfig::home
};

}  // namespace bb::io::nvme
