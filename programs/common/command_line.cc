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

void add_reactor_options(CLI::App& app, io::ReactorOptions* options) {
  auto take = [options](const std::string& name) { options->engine = *io::parse_engine(name); };
  app.add_option_function<std::string>("--engine", take,
                                       "what does the I/O: io_uring, epoll with a pool of threads, "
                                       "or auto: io_uring unless it is "
                                       "refused")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->default_str("auto");
  app.add_flag_callback(
      "--no-spin", [options] { options->spin = false; },
      "always sleep at once when there is nothing to do; otherwise, as long as that pays, "
      "look for 0.1 ms whether something comes: faster, and more CPU time under load");
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
