// SPDX-License-Identifier: Apache-2.0
// pure: NVMe 2.0 log pages
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/nvme/ana.h"
#include "io/nvme/command.h"

namespace bb::io::nvme {

using LogData = std::vector<std::byte>;

inline constexpr size_t kDiscoveryEntryBytes = 1024;  // and the header before them
inline constexpr size_t kErrorEntryBytes = 64;

struct ErrorEntry {
  uint64_t count = 0;  // rises by one with each error; 0: no entry
  uint16_t queue_id = 0;
  uint16_t command_id = 0;
  NvmeStatus status = NvmeStatus::kSuccess;
  uint64_t first_block = 0;
  uint32_t nsid = 0;
};

struct SmartLog {
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t media_errors = 0;
  uint64_t error_entries = 0;
};

struct DiscoveryEntry {
  std::string subsystem_nqn;
  std::string address;  // numeric, without brackets
  std::string port;
  bool ipv6 = false;
  uint16_t port_id = 0;
  uint16_t admin_queue_size = 32;
  bool operator==(const DiscoveryEntry&) const = default;
};

LogData encode_error_log(const std::vector<ErrorEntry>& newest_first);
LogData encode_smart_log(const SmartLog& log);
LogData encode_firmware_log(std::string_view revision);
LogData encode_changed_namespaces(const std::vector<uint32_t>& nsids);
LogData encode_supported_pages(const std::vector<LogId>& pages);
LogData encode_features_supported(std::span<const FeatureId> features);
LogData encode_command_effects(const std::vector<AdminOpcode>& admin,
                               const std::vector<IoOpcode>& io);
// Asymmetric Namespace Access (5.16.1.13).
struct AnaGroup {
  uint32_t id = 0;
  AnaState state = AnaState::kOptimized;
  uint64_t change_count = 0;
  std::vector<uint32_t> nsids;
};
LogData encode_ana_log(uint64_t change_count, const std::vector<AnaGroup>& groups);

LogData encode_discovery_log(uint64_t generation, const std::vector<DiscoveryEntry>& entries);

struct DiscoveryLog {
  uint64_t generation = 0;
  uint64_t record_count = 0;              // as the header says
  std::vector<DiscoveryEntry> entries;    // TCP subsystems among those that `data` holds
  std::vector<DiscoveryEntry> referrals;  // other discovery services, by TCP
};
Result<DiscoveryLog> decode_discovery_log(ConstBytes data);

}  // namespace bb::io::nvme
