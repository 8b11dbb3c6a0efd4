// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "bb/discover.h"
#include "bb/io_command.h"
#include "bb/namespace_command.h"
#include "common/command_line.h"
#include "common/control.h"
#include "common/failure.h"
#include "nvme.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb";

struct Arguments {
  ControlOptions control;
  DiscoverOptions discover;
  std::string query;
  std::vector<std::string> from, select, reject, unique;
  uint32_t members = 0;
  bool explain = false;
};

using Kind = Shown::Kind;

std::vector<Shown> drive_columns(bool explain) {
  std::vector<Shown> columns = {{"Id", "id"},
                                {"Disk node", "disk_node", Kind::kText, 1},
                                {"Slot", "slot", Kind::kText, 2},
                                {"Capacity", "capacity_bytes", Kind::kSize},
                                {"Model", "model"},
                                {"Serial", "serial"},
                                {"State", "state"},
                                {"Used by", "array"}};
  if (explain) columns.push_back({"Refused because", "reason"});
  return columns;
}

std::string query_text(const Arguments& arguments) {
  std::string text;
  auto add = [&text](const char* clause, const std::vector<std::string>& values) {
    for (const std::string& value : values) text += fmt::format("{} {} ", clause, value);
  };
  add("from", arguments.from);
  add("select", arguments.select);
  add("reject", arguments.reject);
  add("unique", arguments.unique);
  if (!text.empty()) text.pop_back();
  return text;
}

int list_drives(const Arguments& arguments) {
  Json params{{"query", query_text(arguments)}, {"explain", arguments.explain}};
  if (arguments.members > 0) params["members"] = arguments.members;
  auto answer = control_call(arguments.control, "drive.list", std::move(params));
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  Json drives = answer->value("drives", Json::array());
  return show(kProgram, arguments.control, drives,
              render_table(drives, drive_columns(arguments.explain)));
}

int list_targets(const Arguments& arguments) {
  auto answer = control_call(arguments.control, "target.list", Json::object());
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  Json targets = answer->value("targets", Json::array());
  std::string table = render_table(targets, {{"Array", "array", Kind::kText, 1},
                                             {"Protocol", "protocol"},
                                             {"Address", "address"},
                                             {"URI", "uri"}});
  return show(kProgram, arguments.control, targets, table);
}

int show_daemon(const Arguments& arguments) {
  auto answer = control_call(arguments.control, "daemon.info", Json::object());
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  std::string table = render_record(
      fmt::format("Daemon {}", answer->value("name", "")), *answer,
      {{"owner", "owner"}, {"host nqn", "host_nqn"}, {"store", "store"}, {"arrays", "arrays"}});
  Json backplanes = answer->value("backplanes", Json::array());
  table += "\n" + render_table(backplanes, {{"Backplane", "name", Kind::kText, 1},
                                            {"Control", "control"},
                                            {"State", "state"},
                                            {"Drives", "drives"},
                                            {"Detail", "detail"}});
  return show(kProgram, arguments.control, *answer, table);
}

int show_version(const Arguments& arguments) {
  Json version{{"program", kProgram}, {"version", BB_PROGRAM_VERSION}};
  return show(kProgram, arguments.control, version, fmt::format("bb {}\n", BB_PROGRAM_VERSION));
}

void add_query_options(CLI::App* command, Arguments* arguments) {
  auto add = [command](const char* name, std::vector<std::string>* values, const char* text) {
    command->add_option(name, *values, text)->allow_extra_args(false);
  };
  add("--from", &arguments->from, "candidates: KEY=VALUE; repeated clauses are OR-ed");
  add("--select", &arguments->select, "keep matches: KEY=VALUE; repeated clauses are AND-ed");
  add("--reject", &arguments->reject, "remove what matches KEY=VALUE");
  add("--unique", &arguments->unique, "no two chosen drives share a value of KEY");
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("drives, targets and daemons of Blockbridge", kProgram);
  app.require_subcommand(0, 1);
  app.fallthrough();
  add_control_options(app, &arguments.control);
  CLI::App* drive = app.add_subcommand("drive", "drives that disk nodes publish");
  drive->require_subcommand(0, 1);
  drive->fallthrough();
  CLI::App* drive_list = drive->add_subcommand("list", "list them (the default verb)");
  drive_list->fallthrough();
  add_query_options(drive_list, &arguments);
  drive_list->add_option("--members", arguments.members,
                         "choose as an array of so many members would");
  drive_list->add_flag("--explain", arguments.explain, "list refused drives too, with the reason");
  CLI::App* target = app.add_subcommand("target", "addresses where hosts reach disks");
  target->require_subcommand(0, 1);
  target->fallthrough();
  target->add_subcommand("list", "list them (the default verb)")->fallthrough();
  CLI::App* discover =
      target->add_subcommand("discover", "ask an NVMe/TCP discovery service, without a daemon");
  discover->fallthrough();
  discover->add_option("service", arguments.discover.service, "HOST[:PORT], 8009 unless given")
      ->required();
  discover->add_flag("--watch", arguments.discover.watch, "go on, and list anew at every change");
  discover->add_option("--host-nqn", arguments.discover.host_nqn, "who asks");
  discover->add_option("--tls-psk", arguments.discover.tls_psk,
                       "FILE with the key of --host-nqn (NVMeTLSkey-1:..., mode 0600): asks by TLS "
                       "or not at all");
  discover->add_flag("!--no-digest", arguments.discover.digests, "without digests");
  CLI::App* daemon = app.add_subcommand("daemon", "the daemon behind the socket");
  daemon->require_subcommand(0, 1);
  daemon->fallthrough();
  daemon->add_subcommand("info", "what it is and which backplanes it sees")->fallthrough();
  NvmeCommand nvme;
  add_nvme_command(app, &nvme);
  IoCommand io;
  io.add_to(app);
  NamespaceCommand namespaces;
  namespaces.add_to(app);
  CLI::App* version = app.add_subcommand("version", "the version of this program");
  version->fallthrough();

  if (auto status = parse_command_line(app, argc, argv, ".SH SEE ALSO\n.BR healctl (1)\n")) {
    return *status;
  }
  if (*drive) return list_drives(arguments);
  if (*discover) return discover_targets(kProgram, arguments.control, arguments.discover);
  if (*target) return list_targets(arguments);
  if (*daemon) return show_daemon(arguments);
  if (*nvme.noun) return run_nvme_command(nvme, arguments.control);
  if (auto status = io.run(arguments.control)) return *status;
  if (namespaces.given()) return namespaces.run(arguments.control);
  if (*version) return show_version(arguments);
  return fail_control(kProgram, arguments.control,
                      error(Code::k_invalid_argument, "no command given"), "bb --help");
}

}  // namespace
}  // namespace bb::program

int main(int argc, char** argv) {
  try {
    return bb::program::run(argc, argv);
  } catch (const nlohmann::json::exception& surprise) {  // an answer of another shape
    return bb::program::fail(
        bb::program::kProgram,
        bb::error(bb::Code::k_internal, "the daemon's answer: {}", surprise.what()));
  }
}
