// SPDX-License-Identifier: Apache-2.0
// pure: how the ports of a target reach its namespaces
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "base/status.h"
#include "io/nvme/ana.h"

namespace bb::io::nvme {

// What the groups of namespaces are to one port (NVMe base 2.0, 8.1).
class AnaPort {
 public:
  AnaState state(uint32_t group) const { return states_[group - 1]; }
  uint64_t changed_at(uint32_t group) const { return changed_at_[group - 1]; }
  bool all_usable() const { return unusable_ == 0; }

 private:
  friend class AnaTable;
  AnaPort() { states_.fill(AnaState::kOptimized); }

  std::array<AnaState, kAnaGroupMax> states_;
  std::array<uint64_t, kAnaGroupMax> changed_at_{};  // the change count of then
  uint32_t unusable_ = 0;
};

class AnaTable {
 public:
  // Ports are made when first asked for, and stay where they are.
  const AnaPort& port(uint16_t id) { return of(id); }
  // INVALID_ARGUMENT for a group there cannot be. True: it is another state than before.
  Result<bool> set(uint16_t port, uint32_t group, AnaState state);
  uint64_t change_count() const { return change_count_; }

 private:
  AnaPort& of(uint16_t id) { return ports_.try_emplace(id, AnaPort()).first->second; }

  std::map<uint16_t, AnaPort> ports_;
  uint64_t change_count_ = 0;
};

}  // namespace bb::io::nvme
