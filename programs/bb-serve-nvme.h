// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/cli11.h"
#include "common/loops.h"
#include "io/device.h"
#include "io/nvme/reservation_file.h"
#include "io/nvme/target_group.h"

namespace bb::program {

// What bb-serve's command line says of NVMe/TCP.
struct NvmeArguments {
  std::vector<std::string> listen;
  std::vector<std::string> uuids;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> host_secrets;  // NQN=FILE
  std::string ctrl_secret;
  std::string tls = "off";
  std::vector<std::string> host_psks;  // NQN=FILE
  std::string digest = "on";
  bool one_subsystem = false;
  bool single_association = false;
  std::vector<uint32_t> ana_groups;  // of the n-th device
  std::vector<std::string> ana_states;
  io::nvme::TargetLimits limits;
  std::string transfer = "1MiB";
  std::string capsule_data = "8KiB";
  std::string keep_alive_grace = "1s";
  std::string reservations;  // folder; empty: none persist
  uint64_t slow_ns = 0;      // see io::nvme::TargetOptions
};

void add_nvme_arguments(CLI::App& app, NvmeArguments* arguments);
// The states of --ana-state.
io::Task<Status> set_ana_states(io::nvme::TargetGroup* target, const NvmeArguments* arguments);
// Also a check of what they say: INVALID_ARGUMENT.
Result<io::nvme::TargetOptions> nvme_target_options(const NvmeArguments& arguments);

// By device; none where reservations do not persist. They outlive the target.
using Reservations = std::vector<std::unique_ptr<io::nvme::ReservationFile>>;

// The names of the subsystems come back. The n-th device lives on `loops->at(n)`.
io::Task<Result<std::vector<std::string>>> publish_nvme(Loops* loops,
                                                        const NvmeArguments* arguments,
                                                        const std::vector<io::Device*>* devices,
                                                        io::nvme::TargetGroup* target,
                                                        Reservations* reservations);

}  // namespace bb::program
