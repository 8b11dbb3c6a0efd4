// SPDX-License-Identifier: Apache-2.0
// Exports devices over the network and to this machine: arguments, lines for whoever started us,
// drain on SIGTERM.
#include <fmt/format.h>

#include "base/log.h"
#include "base/units.h"
#include "bb-serve-control.h"
#include "bb-serve-devices.h"
#include "bb-serve-nbd.h"
#include "bb-serve-nvme.h"
#include "bb-serve-ublk.h"
#include "common/command_line.h"
#include "common/failure.h"
#include "common/metrics_server.h"
#include "common/stop_signals.h"
#include "io/nbd/server_group.h"
#include "io/nvme/target.h"
#include "io/rpc/stats_methods.h"
#include "io/runtime.h"
#include "io/stats_collect.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb-serve";
constexpr const char* kManual =
    ".SH SIGNALS\nSIGTERM and SIGINT drain and stop.\n"
    ".SH BLOCK DEVICES OF THIS MACHINE\n"
    "With \\-\\-ublk N the device is /dev/ublkbN (Linux 6.4 or newer, modprobe ublk_drv, root). "
    "When "
    "bb\\-serve dies, I/O of whoever has it mounted waits; a bb\\-serve started with the same "
    "\\-\\-device and \\-\\-ublk takes it over, without an error for anybody. In order stopped it "
    "removes the block device, but for one that is mounted, which it leaves like with "
    "\\-\\-ublk\\-keep. What the device kept in memory only (mem:) is lost with the process.\n";

struct Options {
  std::vector<std::string> devices;
  NbdArguments nbd;
  NvmeArguments nvme;
  std::string control;
  std::vector<std::string> ublk;
  bool ublk_keep = false;
  std::string metrics;
  std::string slow = "0";
  std::string log_level = "warn";
  uint32_t reactors = 1;
  io::ReactorOptions reactor;
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

io::Task<Status> add_nbd_export(Loops* loops, io::nbd::ServerGroup* server, const Options* options,
                                const std::vector<io::Device*>* devices, size_t index) {
  io::Device* device = (*devices)[index];
  io::nbd::ExportOptions how = options->nbd.exports;
  auto describe = [device]() -> io::Task<std::string> { co_return device->info().uri; };
  how.description = co_await loops->run(index, std::move(describe));
  co_return co_await server->add_export(loops->place(index), nbd_name(index, devices->size()),
                                        device, std::move(how));
}

io::Task<Status> export_nbd(Loops* loops, io::nbd::ServerGroup* server, const Options* options,
                            const std::vector<io::Device*>* devices) {
  for (size_t i = 0; i < devices->size(); ++i) {
    BB_CO_TRY(co_await add_nbd_export(loops, server, options, devices, i));
  }
  std::vector<std::string> listening;
  for (const std::string& address : options->nbd.listen) {
    BB_CO_ASSIGN(std::string at, server->start(io::Address{address}));
    listening.push_back(std::move(at));
  }
  for (const std::string& at : listening) {
    for (size_t i = 0; i < devices->size(); ++i)
      say("export nbd {} {}", at, nbd_name(i, devices->size()));
    say("ready nbd {}", at);
  }
  co_return Status();
}

io::Task<Status> export_nvme(Loops* loops, io::nvme::TargetGroup* target, const Options* options,
                             const std::vector<io::Device*>* devices, Reservations* reservations) {
  BB_CO_ASSIGN(std::vector<std::string> names,
               co_await publish_nvme(loops, &options->nvme, devices, target, reservations));
  for (const std::string& address : target->addresses()) {
    for (const std::string& name : names) say("export nvme-tcp {} {}", address, name);
    say("ready nvme-tcp {}", address);
  }
  co_return Status();
}

io::Task<Status> attach_ublk(UblkExports* ublk, const Options* options,
                             const std::vector<io::Device*>* devices) {
  BB_CO_ASSIGN(UblkExports::Numbers numbers, UblkExports::parse(options->ublk, devices->size()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    BB_CO_ASSIGN(UblkExports::Attached attached, co_await ublk->start((*devices)[i], numbers[i]));
    say("export ublk {} {}", attached.path, attached.recovered ? "recovered" : "new");
  }
  if (!numbers.empty()) say("ready ublk");
  co_return Status();
}

// What is served, and what of it can be asked while it is.
struct Served {
  Devices devices;
  Reservations reservations;
  std::unique_ptr<io::nvme::TargetGroup> target;  // null: no --nvme-tcp
  std::unique_ptr<io::nbd::ServerGroup> nbd;      // null: no --nbd
  UblkExports ublk;
  std::unique_ptr<NvmeControl> nvme_control;  // null: no --control, or no --nvme-tcp
  io::rpc::RpcServer control;
  std::unique_ptr<MetricsServer> metrics;  // null: no --metrics

  explicit Served(Loops& loops) : devices(loops), ublk(loops), control(loops.front()) {}
  io::Task<void> collect(io::StatsReport* into) {
    co_await devices.collect(into);
    if (target != nullptr) co_await target->collect(into);
    if (nbd != nullptr) co_await nbd->collect(into);
  }
};

io::Task<Status> start_exports(Loops* loops, const Options* options, io::nbd::ServerTls tls,
                               Served* served) {
  BB_CO_ASSIGN(std::vector<io::Device*> devices, co_await served->devices.open(&options->devices));
  if (!options->nvme.listen.empty()) {
    BB_CO_ASSIGN(io::nvme::TargetOptions wanted, nvme_target_options(options->nvme));
    BB_CO_ASSIGN(served->target, co_await io::nvme::TargetGroup::create(
                                     loops->front(), loops->others(), std::move(wanted)));
    BB_CO_TRY(co_await set_ana_states(served->target.get(), &options->nvme));
    BB_CO_TRY(co_await export_nvme(loops, served->target.get(), options, &devices,
                                   &served->reservations));
  }
  if (!options->nbd.listen.empty()) {
    served->nbd = co_await io::nbd::ServerGroup::create(
        loops->front(), loops->others(), {.slow_ns = options->nvme.slow_ns}, std::move(tls));
    BB_CO_TRY(co_await export_nbd(loops, served->nbd.get(), options, &devices));
  }
  co_return co_await attach_ublk(&served->ublk, options, &devices);
}

Status start_asking(Loops& loops, const Options& options, Served& served) {
  io::Loop& loop = loops.front().loop;
  auto collect = [&served](io::StatsReport* into) { return served.collect(into); };
  BB_ASSIGN(served.metrics, MetricsServer::start_if(loop, options.metrics, collect));
  if (served.metrics != nullptr) say("ready metrics {}", served.metrics->address());
  if (options.control.empty()) return {};
  io::rpc::add_stats_methods(served.control, loop, collect);
  if (served.target != nullptr) {
    bool alone = options.nbd.listen.empty() && options.ublk.empty();
    served.nvme_control =
        std::make_unique<NvmeControl>(loops, *served.target, served.devices, alone);
    served.nvme_control->add_methods(served.control);
  }
  BB_TRY(served.control.listen({options.control}));
  say("ready control {}", served.control.local_addresses().front());
  return {};
}

io::Task<Status> serve(io::Context context, const Options* options, io::nbd::ServerTls tls,
                       StopSignals* signals) {
  BB_CO_ASSIGN(Loops loops, Loops::create(context, options->reactors, options->reactor));
  Served served(loops);
  Status status = co_await start_exports(&loops, options, std::move(tls), &served);
  if (status.ok()) status = start_asking(loops, *options, served);
  if (status.ok()) co_await signals->stop().wait();
  if (served.metrics != nullptr) co_await served.metrics->stop();
  co_await served.control.stop();
  co_await served.ublk.stop(options->ublk_keep);
  if (served.nbd) co_await served.nbd->stop();
  if (served.target) co_await served.target->stop();
  Status closed = co_await served.devices.close();
  co_return status.ok() ? closed : status;
}

void add_arguments(CLI::App& app, Options* options) {
  app.add_option("--device", options->devices,
                 "device to export, by URI: file:/path, mem:1G, null:1T; may be repeated")
      ->required();
  add_nbd_arguments(app, &options->nbd);
  add_nvme_arguments(app, &options->nvme);
  app.add_option("--ublk", options->ublk,
                 "attach as a block device of this machine: the N of /dev/ublkbN, or any; once for "
                 "each device, or any for all")
      ->allow_extra_args(false);
  app.add_flag("--ublk-keep", options->ublk_keep,
               "leave the block devices when stopping: their I/O waits for a bb-serve with the "
               "same --device and --ublk");
  app.add_option("--control", options->control,
                 "control socket for `bb io`, `bb namespace` and `bb ana`: unix:PATH or a loopback "
                 "ADDRESS:PORT");
  app.add_option("--metrics", options->metrics, kMetricsHelp);
  app.add_option(
         "--slow", options->slow,
         "`bb io slow` keeps commands that took longer, 20ms; 0: the slowest of each second")
      ->capture_default_str();
  app.add_option("--log-level", options->log_level, "debug, info, warn, error or off")
      ->capture_default_str();
  app.add_option(
         "--reactors", options->reactors,
         "threads that serve, 1 to 64; the devices are dealt out to them in turn, and hosts "
         "reach each of them by every --nvme-tcp and --nbd")
      ->check(CLI::Range(1u, 64u))
      ->capture_default_str();
  add_reactor_options(app, &options->reactor);
}

// What lives on one loop only.
Status check_reactors(const Options& options) {
  if (options.reactors == 1 || !options.nvme.one_subsystem) return {};
  return error(Code::k_not_supported,
               "--reactors: a subsystem is served by one: --one-subsystem works with one only");
}

// What reading the command line leaves to do, before anything is opened.
Result<io::nbd::ServerTls> settle_arguments(Options* options) {
  if (options->nbd.listen.empty() && options->nvme.listen.empty() && options->ublk.empty()) {
    return error(Code::k_invalid_argument, "none of --nvme-tcp, --nbd and --ublk is given");
  }
  BB_TRY(check_reactors(*options));
  BB_TRY(UblkExports::parse(options->ublk, options->devices.size()).status());
  if (!options->nvme.reservations.empty() && options->nvme.uuids.size() < options->devices.size()) {
    return error(Code::k_invalid_argument,
                 "--reservations needs a --uuid for each --device: {} of {} are given",
                 options->nvme.uuids.size(), options->devices.size());
  }
  BB_TRY(nvme_target_options(options->nvme).status());
  BB_ASSIGN(LogLevel level, parse_log_level(options->log_level));
  set_log_level(level);
  auto slow_ns = parse_duration_ns(options->slow);
  if (!slow_ns.ok()) return slow_ns.status().with_context("--slow");
  options->nvme.slow_ns = *slow_ns;
  return make_nbd_tls(options->nbd);
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Exports devices over the network until SIGTERM", kProgram);
  add_arguments(app, &options);
  if (auto ended = parse_command_line(app, argc, argv, kManual)) return *ended;
  auto tls = settle_arguments(&options);
  if (!tls.ok()) return fail(kProgram, tls.status(), "bb-serve --help");

  auto runtime = io::Runtime::create(false, options.reactor);
  if (!runtime.ok()) return fail(kProgram, runtime.status());
  StopSignals signals((*runtime)->reactor());
  Status status = (*runtime)->reactor().block_on(
      serve((*runtime)->context(), &options, std::move(*tls), &signals));
  return status.ok() ? 0 : fail(kProgram, status);
}

}  // namespace
}  // namespace bb::program

int main(int argc, char** argv) { return bb::program::run(argc, argv); }
