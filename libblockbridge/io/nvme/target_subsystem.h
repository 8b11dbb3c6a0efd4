// SPDX-License-Identifier: Apache-2.0
// pure: what a target publishes
#pragma once

#include <string>
#include <vector>

#include "base/uuid.h"
#include "io/nvme/command.h"
#include "io/nvme/target_limits.h"

namespace bb::io {
class Device;
}

namespace bb::io::nvme {

// Asked at every Connect of a subsystem. FENCED and PERMISSION_DENIED refuse for good; BUSY and
// UNAVAILABLE tell the host to try again.
class Admission {
 public:
  virtual Status admit(const HostIdentity& host) = 0;

 protected:
  ~Admission() = default;
};

struct Geometry {
  uint64_t block_count = 0;
  uint32_t block_bytes = 512;
  uint32_t physical_block_bytes = 512;
  uint32_t transfer_max_bytes = 1u << 20;
  bool read_only = false;
  bool volatile_cache = false;
  bool discard = false;
};

struct SubsystemConfig {
  std::string nqn;
  std::string serial;
  std::string model = "Blockbridge";
  std::string firmware = "0.1";
  Uuid uuid;                               // of the one namespace, nsid 1
  std::vector<std::string> allowed_hosts;  // NQNs; empty: any
  Admission* admission = nullptr;          // borrowed
  Device* device = nullptr;                // borrowed; only the driver looks at it
  bool single_association = false;
  Geometry geometry;
};

struct Counters {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t errors = 0;  // commands answered with an error
  uint64_t digest_errors = 0;
};

struct Subsystem {
  SubsystemConfig config;
  Counters counters;

  bool allows(const std::string& host_nqn) const;
  uint32_t transfer_max_bytes(const TargetLimits& limits) const;
};

}  // namespace bb::io::nvme
