// SPDX-License-Identifier: Apache-2.0
// Exports devices over the network: arguments, lines for whoever started us, drain on SIGTERM.
#include <fmt/format.h>

#include "base/log.h"
#include "common/command_line.h"
#include "common/failure.h"
#include "common/stop_signals.h"
#include "io/device_uri.h"
#include "io/nbd/server.h"
#include "io/runtime.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb-serve";

struct Options {
  std::vector<std::string> devices;
  std::vector<std::string> nbd;
  std::string log_level = "warn";
};

template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print(format, std::forward<Args>(args)...);
  fmt::print("\n");
  std::fflush(stdout);  // whoever started us waits for these lines
}

// The name a device is exported by over NBD: one device is simply `disk`.
std::string nbd_name(size_t index, size_t count) {
  return count == 1 ? "disk" : fmt::format("disk{}", index);
}

io::Task<Status> export_nbd(io::nbd::Server* server, const Options* options,
                            const std::vector<std::unique_ptr<io::Device>>* devices) {
  for (size_t i = 0; i < devices->size(); ++i) {
    io::Device& device = *(*devices)[i];
    BB_CO_TRY(server->add_export(nbd_name(i, devices->size()), device, device.info().uri));
  }
  std::vector<std::string> listening;
  for (const std::string& address : options->nbd) {
    auto at = server->start(io::Address{address});
    BB_CO_TRY(at);
    listening.push_back(*at);
  }
  for (const std::string& at : listening) {
    for (size_t i = 0; i < devices->size(); ++i)
      say("export nbd {} {}", at, nbd_name(i, devices->size()));
    say("ready nbd {}", at);
  }
  co_return Status();
}

io::Task<Status> close_devices(std::vector<std::unique_ptr<io::Device>>* devices) {
  Status first;
  for (size_t i = 0; i < devices->size(); ++i) {
    Status closed = co_await (*devices)[i]->close();
    if (!closed.ok() && first.ok()) first = closed;
  }
  co_return first;
}

io::Task<Status> serve(io::Context context, const Options* options, StopSignals* signals) {
  std::vector<std::unique_ptr<io::Device>> devices;
  Status status;
  for (size_t i = 0; i < options->devices.size() && status.ok(); ++i) {
    auto device = co_await io::open_device(context, options->devices[i]);
    if (device.ok()) {
      devices.push_back(std::move(device).value());
    } else {
      status = device.status();
    }
  }
  io::nbd::Server nbd(context);
  if (status.ok()) status = co_await export_nbd(&nbd, options, &devices);
  if (status.ok()) co_await signals->stop().wait();
  co_await nbd.stop();
  Status closed = co_await close_devices(&devices);
  co_return status.ok() ? closed : status;
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Exports devices over the network until SIGTERM", kProgram);
  app.add_option("--device", options.devices,
                 "device to export, by URI: file:/path, mem:1G, null:1T; may be repeated")
      ->required();
  app.add_option("--nbd", options.nbd,
                 "listen for NBD: ADDRESS:PORT (port 0 picks one) or unix:PATH; may be repeated")
      ->required();
  app.add_option("--log-level", options.log_level, "debug, info, warn, error or off")
      ->capture_default_str();
  if (auto ended = parse_command_line(app, argc, argv)) return *ended;
  auto level = parse_log_level(options.log_level);
  if (!level.ok()) return fail(kProgram, level.status());
  set_log_level(*level);

  auto runtime = io::Runtime::create(false);
  if (!runtime.ok()) return fail(kProgram, runtime.status());
  StopSignals signals((*runtime)->reactor());
  Status status = (*runtime)->reactor().block_on(serve((*runtime)->context(), &options, &signals));
  return status.ok() ? 0 : fail(kProgram, status);
}

}  // namespace
}  // namespace bb::program

int main(int argc, char** argv) { return bb::program::run(argc, argv); }
