// SPDX-License-Identifier: Apache-2.0
#include "nvme.h"

#include <nlohmann/json.hpp>

#include "common/failure.h"
#include "io/nvme/local_inventory.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb";
using Kind = Shown::Kind;

std::string with_source(const Json& drive, const std::string& title) {
  return drive["source"] == "simulated" ? title + " (simulated)" : title;
}

std::string list_table(const Json& drives) {
  return render_table(drives, {{"Name", "name", Kind::kText, 1},
                               {"Model", "model"},
                               {"Serial", "serial"},
                               {"Firmware", "firmware"},
                               {"Transport", "transport"},
                               {"Capacity", "capacity_bytes", Kind::kSize},
                               {"State", "state"},
                               {"Source", "source"}});
}

std::string info_table(const Json& drive) {
  std::string name = drive["name"];
  std::string out = render_record(with_source(drive, "Drive " + name), drive,
                                  {{"model", "model"},
                                   {"serial", "serial"},
                                   {"firmware", "firmware"},
                                   {"transport", "transport"},
                                   {"address", "address"},
                                   {"subsystem nqn", "subsystem_nqn"},
                                   {"state", "state"},
                                   {"capacity", "capacity_bytes", Kind::kSize},
                                   {"source", "source"},
                                   {"problem", "problem"}});
  out += "\n" + render_table(drive["namespaces"], {{"Namespace", "name", Kind::kText, 1},
                                                   {"Id", "nsid"},
                                                   {"Capacity", "size_bytes", Kind::kSize},
                                                   {"Used", "used_bytes", Kind::kSize},
                                                   {"Block", "block_bytes"},
                                                   {"URI", "uri"}});
  for (const Json& space : drive["namespaces"]) {
    std::string of = space["name"];
    out += "\n== Formats of " + of + "\n" +
           render_table(space["formats"], {{"Number", "number", Kind::kText, 1},
                                           {"Data bytes", "data_bytes"},
                                           {"Metadata bytes", "metadata_bytes"},
                                           {"Performance", "performance"},
                                           {"In use", "in_use"}});
  }
  return out;
}

std::string smart_table(const Json& name, const Json& health) {
  return render_record(with_source(health, "Health of " + name.get<std::string>()), health,
                       {{"source", "source"},
                        {"warnings", "warnings"},
                        {"temperature C", "temperature_celsius"},
                        {"wear %", "wear_percent"},
                        {"spare %", "spare_percent"},
                        {"spare threshold %", "spare_threshold_percent"},
                        {"media errors", "media_errors"},
                        {"error log entries", "error_entries"},
                        {"power-on hours", "power_on_hours"},
                        {"power cycles", "power_cycles"},
                        {"unsafe shutdowns", "unsafe_shutdowns"},
                        {"read", "read_bytes", Kind::kSize},
                        {"written", "written_bytes", Kind::kSize}});
}

Result<Json> find_drive(const std::vector<io::nvme::InventoryDrive>& drives, std::string name) {
  constexpr std::string_view kFolder = "/dev/";
  if (name.starts_with(kFolder)) name.erase(0, kFolder.size());
  for (const io::nvme::InventoryDrive& drive : drives) {
    if (drive.name == name) return io::nvme::to_json(drive);
  }
  return error(Code::k_not_found, "drive \"{}\": this machine has no such NVMe controller", name);
}

}  // namespace

void add_nvme_command(CLI::App& app, NvmeCommand* command) {
  command->noun = app.add_subcommand("nvme", "NVMe drives of this machine (no daemon needed)");
  command->noun->require_subcommand(0, 1);
  command->noun->fallthrough();
  command->noun->add_subcommand("list", "list them (the default verb)")->fallthrough();
  command->info = command->noun->add_subcommand("info", "one drive: namespaces, formats");
  command->smart = command->noun->add_subcommand("smart", "one drive: its SMART / Health log");
  for (CLI::App* verb : {command->info, command->smart}) {
    verb->fallthrough();
    verb->add_option("drive", command->drive, "controller, such as nvme0")->required();
  }
}

int run_nvme_command(const NvmeCommand& command, const ControlOptions& options) {
  auto drives = io::nvme::list_local_drives();
  if (!drives.ok()) return fail_control(kProgram, options, drives.status());
  if (!*command.info && !*command.smart) {
    Json list = Json::array();
    for (const io::nvme::InventoryDrive& drive : *drives) list.push_back(io::nvme::to_json(drive));
    return show(kProgram, options, list, list_table(list));
  }
  auto drive = find_drive(*drives, command.drive);
  if (!drive.ok()) return fail_control(kProgram, options, drive.status(), "bb nvme list");
  if (*command.info) return show(kProgram, options, *drive, info_table(*drive));
  Json health = (*drive)["health"];
  if (health.is_null()) {
    std::string why = (*drive)["problem"].is_null() ? "no answer" : (*drive)["problem"];
    return fail_control(
        kProgram, options,
        error(Code::k_unavailable, "drive \"{}\": no health log: {}", command.drive, why),
        "run it as root");
  }
  health["name"] = (*drive)["name"];
  health["source"] = (*drive)["source"];
  return show(kProgram, options, health, smart_table((*drive)["name"], health));
}

}  // namespace bb::program
