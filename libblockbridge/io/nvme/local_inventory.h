// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/nvme/health.h"

namespace bb::io::nvme {

struct InventoryNamespace {
  std::string name;  // nvme0n1
  std::string uri;   // nvme:/dev/ng0n1
  uint32_t nsid = 0;
  uint64_t size_bytes = 0;
  uint64_t used_bytes = 0;
  uint32_t block_bytes = 0;
  std::vector<LbaFormat> formats;  // empty when the drive was not allowed to be asked
};

// An NVMe controller that this machine's kernel knows, on PCIe or connected to over a network.
struct InventoryDrive {
  std::string name;  // nvme0
  std::string model;
  std::string serial;
  std::string firmware;
  std::string transport;  // pcie, tcp, …
  std::string address;
  std::string subsystem_nqn;
  std::string state;       // live, resetting, …
  bool simulated = false;  // a program answers: nothing of this was read from hardware
  std::vector<InventoryNamespace> namespaces;
  std::optional<Health> health;
  Status problem;  // why the health, or the formats, are absent
};

// Blocks: not on a loop's thread. Without root everything but what the drive itself has to be
// asked for.
Result<std::vector<InventoryDrive>> list_local_drives();

// Of the drive, as `bb nvme` and bb_local_drive_list() give it.
Json to_json(const InventoryDrive& drive);

}  // namespace bb::io::nvme
