// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "io/engine.h"

namespace bb::program {

// Parses; prints the manual page for --man alone, with `more` (roff) at its end; an exit status
// when the program should end now: 0 after --help or --version, 2 with the usual two lines on
// stderr when the arguments are wrong. CLI11 throws; nothing passes this border.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv,
                                      std::string_view more = "");

// --engine of a daemon: auto, io_uring or epoll.
void add_engine_option(CLI::App& app, io::EngineKind* engine);

Result<LogLevel> parse_log_level(const std::string& text);  // debug, info, warn, error, off

}  // namespace bb::program
