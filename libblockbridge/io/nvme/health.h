// SPDX-License-Identifier: Apache-2.0
// pure: what a drive says of itself (NVMe base 2.0: SMART / Health log, formats of a namespace)
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"

namespace bb::io::nvme {

inline constexpr size_t kHealthLogBytes = 512;

// Base 2.0, figure 207. Counters above 2^64 are given as 2^64 - 1.
struct Health {
  uint8_t critical_warning = 0;  // bits; 0: none
  std::optional<int> temperature_celsius;
  uint32_t spare_percent = 0;
  uint32_t spare_threshold_percent = 0;
  uint32_t wear_percent = 0;  // of the life that the vendor expects; may exceed 100
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t power_cycles = 0;
  uint64_t power_on_hours = 0;
  uint64_t unsafe_shutdowns = 0;
  uint64_t media_errors = 0;
  uint64_t error_entries = 0;

  static Result<Health> decode(ConstBytes log);
};

// The critical warning in words; empty when there is none.
std::vector<std::string_view> critical_warnings(uint8_t bits);

// One LBA format a namespace may be given (NVM command set 1.0, figure 98).
struct LbaFormat {
  uint32_t data_bytes = 0;
  uint32_t metadata_bytes = 0;
  uint8_t performance = 0;  // 0 best, 3 degraded
  bool in_use = false;
};
// From Identify Namespace, in the order of their numbers.
Result<std::vector<LbaFormat>> lba_formats(ConstBytes identify);

// Is what answers a program? Its health is then made up, and is labelled so wherever it is shown.
bool is_simulated(uint16_t pci_vendor, std::string_view model);

}  // namespace bb::io::nvme
