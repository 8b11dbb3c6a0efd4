// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "base/cli11.h"
#include "base/log.h"
#include "base/status.h"
#include "io/reactor.h"

namespace bb::program {

// Parses; prints the manual page for --man alone, with `more` (roff) at its end; an exit status
// when the program should end now: 0 after --help or --version, 2 with the usual two lines on
// stderr when the arguments are wrong. CLI11 throws; nothing passes this border.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv,
                                      std::string_view more = "");

// --engine and --no-spin of a daemon.
void add_reactor_options(CLI::App& app, io::ReactorOptions* options);

Result<LogLevel> parse_log_level(const std::string& text);  // debug, info, warn, error, off

}  // namespace bb::program
