// SPDX-License-Identifier: Apache-2.0
#include "common/command_line.h"

#include "common/control.h"
#include "common/failure.h"

namespace bb::program {

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv, std::string_view more) {
  if (argc == 2 && std::string_view(argv[1]) == "--man") {
    fmt::print("{}", render_man(app, more));
    return 0;
  }
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& asked) {  // --help, --version: printed by CLI11
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    return fail(app.get_name(), error(Code::k_invalid_argument, "{}", wrong.what()),
                fmt::format("{} --help", app.get_name()));
  }
}

void add_engine_option(CLI::App& app, io::EngineKind* engine) {
  auto take = [engine](const std::string& name) { *engine = *io::parse_engine(name); };
  app.add_option_function<std::string>("--engine", take,
                                       "what does the I/O: io_uring, epoll with a pool of threads, "
                                       "or auto: io_uring unless it is "
                                       "refused")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->default_str("auto");
}

Result<LogLevel> parse_log_level(const std::string& text) {
  struct Row {
    std::string_view name;
    LogLevel level;
  };
  constexpr Row kRows[] = {{"debug", LogLevel::kDebug},
                           {"info", LogLevel::kInfo},
                           {"warn", LogLevel::kWarn},
                           {"error", LogLevel::kError},
                           {"off", LogLevel::kOff}};
  for (const Row& row : kRows) {
    if (row.name == text) return row.level;
  }
  return error(Code::k_invalid_argument,
               "log level \"{}\" is none of debug, info, warn, error, off", text);
}

}  // namespace bb::program
