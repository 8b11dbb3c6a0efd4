// SPDX-License-Identifier: Apache-2.0
// Publishes drives: arguments, configuration, ready line, drain on SIGTERM.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "backplane/disk_node.h"
#include "common/command_line.h"
#include "common/daemon.h"
#include "common/failure.h"
#include "common/metrics_server.h"
#include "common/stop_signals.h"
#include "io/runtime.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb-disknode";

constexpr const char* kManual = R"(.SH CONFIGURATION
A YAML file. An unknown or wrong key is refused with file and line.
.TP
.B name
of the disk node; also its failure domain and enclosure unless
.B domain
or
.B enclosure
say otherwise.
.TP
.B listen
list of NVMe/TCP addresses, HOST:PORT.
.TP
.B control
HOST:PORT of the control channel. It has no TLS yet, so another address than loopback needs
.BR insecure_control :
true.
.TP
.B hosts
list of host NQNs that may reach drives nobody has claimed.
.TP
.B drives
list of {path, slot, serial, model, create}: a file or block device each;
.B create
makes a missing file of that size. A drive that holds something else is refused with the reason.
.SH SIGNALS
SIGTERM and SIGINT drain and stop.
.SH SEE ALSO
.BR bb-dataplane (1),
.BR bb (1),
.BR healctl (1)
)";

io::Task<Status> serve(io::Context context, backplane::DiskNodeConfig config,
                       std::string metrics_at, StopSignals* signals) {
  std::string name = config.name;
  auto daemon = co_await backplane::DiskNode::start(context, std::move(config));
  if (!daemon.ok()) co_return daemon.status();
  auto metrics = MetricsServer::start_if(
      context.loop, metrics_at,
      io::collect_here([from = daemon->get()](auto* into) { from->collect(into); }));
  if (!metrics.ok()) {
    co_await (*daemon)->stop();
    co_return metrics.status();
  }
  announce_ready(fmt::format("ready disknode {} nvme-tcp {} control {}", name,
                             fmt::join((*daemon)->nvme_addresses(), ","),
                             fmt::join((*daemon)->control_addresses(), ",")));
  co_await signals->stop().wait();
  announce_stopping();
  if (*metrics != nullptr) co_await (*metrics)->stop();
  co_await (*daemon)->stop();
  co_return Status();
}

int run(int argc, char** argv) {
  std::string path;
  std::string log_level = "info";
  std::string metrics_at;
  bool check = false;
  io::ReactorOptions reactor;
  CLI::App app("Publishes drives over NVMe/TCP until SIGTERM", kProgram);
  app.add_option("config,--config", path, "configuration, YAML")->required();
  app.add_flag("--check", check, "only say whether the configuration is right");
  app.add_option("--metrics", metrics_at, kMetricsHelp);
  app.add_option("--log-level", log_level, "debug, info, warn, error or off")
      ->capture_default_str();
  add_reactor_options(app, &reactor);
  if (auto ended = parse_command_line(app, argc, argv, kManual)) return *ended;
  auto level = parse_log_level(log_level);
  if (!level.ok()) return fail(kProgram, level.status());
  set_log_level(*level);

  auto text = read_config_file(path, backplane::kConfigTextMaxBytes);
  if (!text.ok()) return fail(kProgram, text.status());
  auto config = backplane::parse_disknode_config(*text, path);
  if (!config.ok()) return fail(kProgram, config.status());
  if (check) {
    fmt::print("{}: right\n", path);
    return 0;
  }
  auto runtime = io::Runtime::create(false, reactor);
  if (!runtime.ok()) return fail(kProgram, runtime.status());
  StopSignals signals((*runtime)->reactor());
  Status status = (*runtime)->reactor().block_on(
      serve((*runtime)->context(), std::move(config).value(), metrics_at, &signals));
  return status.ok() ? 0 : fail(kProgram, status);
}

}  // namespace
}  // namespace bb::program

int main(int argc, char** argv) { return bb::program::run(argc, argv); }
