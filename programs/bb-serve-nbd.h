// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/cli11.h"
#include "io/nbd/server.h"

namespace bb::program {

// What bb-serve's command line says of NBD.
struct NbdArguments {
  std::vector<std::string> listen;
  io::nbd::ExportOptions exports;
  std::string tls = "off";
  io::TlsOptions certificates{.role = io::TlsRole::kServer};
};

void add_nbd_arguments(CLI::App& app, NbdArguments* arguments);
// Reads the files. INVALID_ARGUMENT also for arguments that contradict each other.
Result<io::nbd::ServerTls> make_nbd_tls(const NbdArguments& arguments);

}  // namespace bb::program
