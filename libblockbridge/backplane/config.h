// SPDX-License-Identifier: Apache-2.0
// pure: text in, values out
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "backplane/scrub_schedule.h"
#include "base/status.h"
#include "base/uuid.h"

namespace bb::backplane {

struct DriveConfig {
  std::string uri;   // a path in the file becomes file:PATH
  std::string slot;  // default: its place in the list
  std::string serial;
  std::string model;
  uint64_t create_bytes = 0;  // > 0: a missing file is made with this size
};

// disknode.yaml
struct DiskNodeConfig {
  std::string name;
  std::string domain;               // default: the name
  std::string enclosure;            // default: the name
  std::vector<std::string> listen;  // NVMe/TCP addresses
  std::string control;              // address of the control channel
  bool insecure_control = false;    // the control channel may leave this machine, without TLS
  std::vector<std::string> hosts;   // NQNs that may reach free drives
  std::vector<DriveConfig> drives;
};

struct BackplaneConfig {
  std::string name;
  std::string control;
};

// dataplane.yaml
struct DataplaneConfig {
  std::string name;
  Uuid host;  // nil: made once and kept in the store
  std::vector<BackplaneConfig> backplanes;
  std::string store;                     // URI: file:PATH
  std::string control;                   // socket of the command-line programs
  std::vector<std::string> nvme_listen;  // empty: not exported so
  std::vector<std::string> nbd_listen;
  // How long a member of an array may be much slower than the others until it is failed, if the
  // array can do without it; 0: it stays.
  uint64_t slow_fail_ns = 0;
  ScrubSchedule scrub;                  // of every array
  uint64_t scrub_bytes_per_second = 0;  // the most that a scrub may take; 0: as resync
};

inline constexpr size_t kConfigTextMaxBytes = 1u << 20;
inline constexpr size_t kConfigDrivesMax = 256;
inline constexpr size_t kConfigListMax = 64;

// INVALID_ARGUMENT with `file:line:` in front and, for an unknown key, the nearest known one.
// `file` is only named, never opened.
Result<DiskNodeConfig> parse_disknode_config(std::string_view text, std::string_view file);
Result<DataplaneConfig> parse_dataplane_config(std::string_view text, std::string_view file);

}  // namespace bb::backplane
