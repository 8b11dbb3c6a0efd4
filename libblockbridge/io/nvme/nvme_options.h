// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/uri.h"
#include "io/nvme/association.h"
#include "io/nvme/path_policy.h"

namespace bb::io::nvme {

inline constexpr size_t kPathsMax = 16;

struct NvmeOptions {
  AssociationOptions association;      // of each path, but for its address
  std::vector<std::string> addresses;  // host:port, one for each path
  std::vector<std::string> services;   // or discovery services that name them
  PathPolicy policy = PathPolicy::kRoundRobin;
  uint64_t io_timeout_ns = 0;
  uint64_t connect_timeout_ns = 0;
  uint64_t wait_ns = 0;
  uint64_t fence_ns = 0;  // how long a lost path may still write; 0: as the protocol says
};
// nvme-tcp://host:4420[,host:4420…]/NQN?nsid=1&hostnqn=…&hostid=UUID&digest=on|header|data|off
// &queue_depth=128&queues=1&io_timeout=30s&connect_timeout=5s&keep_alive=5s&wait=0
// &policy=round-robin|latency|active-passive&fence=auto. `prng` makes a host id when none is given.
Result<NvmeOptions> parse_nvme_options(Uri uri, Prng& prng);
// nvme-tcp+discover://host:8009[,host…]/NQN?…: the same, but the addresses are those of discovery
// services.
Result<NvmeOptions> parse_discovered_options(Uri uri, Prng& prng);

}  // namespace bb::io::nvme
