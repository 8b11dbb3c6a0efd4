// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/status.h"
#include "io/context.h"

namespace bb::program {

// What daemons with a configuration file do alike.
Result<std::string> read_config_file(const std::string& path, size_t bytes_max);

// Tells whoever started us, on stdout and to systemd, that we serve.
void announce_ready(const std::string& line);
void announce_stopping();

}  // namespace bb::program
