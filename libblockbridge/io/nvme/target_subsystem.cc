// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_subsystem.h"

#include <algorithm>
#include <bit>

namespace bb::io::nvme {

bool Subsystem::allows(const std::string& host_nqn) const {
  const auto& allowed = config.allowed_hosts;
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), host_nqn) != allowed.end();
}

uint32_t Subsystem::transfer_max_bytes(const TargetLimits& limits) const {
  return std::bit_floor(std::min(limits.transfer_bytes, config.geometry.transfer_max_bytes));
}

}  // namespace bb::io::nvme
