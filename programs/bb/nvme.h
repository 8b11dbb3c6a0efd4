// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/control.h"

namespace bb::program {

// `bb nvme list|info|smart`: the NVMe drives of this machine, asked directly, without a daemon.
struct NvmeCommand {
  CLI::App* noun = nullptr;
  CLI::App* info = nullptr;
  CLI::App* smart = nullptr;
  std::string drive;
};
void add_nvme_command(CLI::App& app, NvmeCommand* command);
int run_nvme_command(const NvmeCommand& command, const ControlOptions& options);

}  // namespace bb::program
