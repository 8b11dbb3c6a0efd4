// SPDX-License-Identifier: Apache-2.0
#include "bb/namespace_command.h"

#include <nlohmann/json.hpp>

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb";
using Kind = Shown::Kind;

const std::vector<Shown>& columns() {
  static const std::vector<Shown> all = {{"Subsystem", "subsystem", Kind::kText, 1},
                                         {"NSID", "nsid", Kind::kText, 2},
                                         {"Size", "size_bytes", Kind::kSize},
                                         {"Device", "device"},
                                         {"Read only", "read_only"},
                                         {"ANA group", "ana_group"},
                                         {"UUID", "uuid"}};
  return all;
}

CLI::App* verb(CLI::App* of, const char* name, const char* text) {
  CLI::App* command = of->add_subcommand(name, text);
  command->fallthrough();
  return command;
}

}  // namespace

void NamespaceCommand::add_to(CLI::App& app) {
  namespaces_ = app.add_subcommand("namespace", "namespaces of a bb-serve, while hosts use them");
  namespaces_->require_subcommand(0, 1);
  namespaces_->fallthrough();
  verb(namespaces_, "list", "list them (the default verb)");
  add_ = verb(namespaces_, "add", "publish another device");
  remove_ = verb(namespaces_, "remove", "take one away; done when nothing reaches its device");
  replace_ = verb(namespaces_, "replace",
                  "put another device in its place: larger, or elsewhere, with the same contents");
  for (CLI::App* command : {add_, remove_, replace_}) {
    command->add_option("--subsystem", subsystem_, "its NQN; not needed where there is only one");
    CLI::Option* nsid = command->add_option("--nsid", nsid_, "its number");
    if (command != add_) nsid->required();
    if (command != remove_) {
      command->add_option("--device", device_, "device by URI, opened by the daemon")->required();
    }
  }
  add_->add_option("--uuid", uuid_, "its identity; a fresh one otherwise");
  add_->add_option("--ana-group", group_, "its group of asymmetric access");
  add_->add_flag("--read-only", read_only_, "to hosts, whatever the device is");

  ana_ = app.add_subcommand("ana", "asymmetric namespace access of a bb-serve");
  ana_->require_subcommand(0, 1);
  ana_->fallthrough();
  verb(ana_, "list", "state of each group at each port (the default verb)");
  set_ = verb(ana_, "set", "change it: hosts are told; done when I/O by that port has ended");
  set_->add_option("--port", port_, "which --nvme-tcp of the daemon, from 1 on; every one without");
  set_->add_option("--group", group_, "which namespaces");
  set_->add_option("state", state_,
                   "optimized, non-optimized, inaccessible, persistent-loss or change")
      ->required();
}

int NamespaceCommand::list(const ControlOptions& control) const {
  auto answer = control_call(control, "namespace.list", Json::object());
  if (!answer.ok()) return fail_control(kProgram, control, answer.status());
  Json all = answer->value("namespaces", Json::array());
  return show(kProgram, control, all, render_table(all, columns()));
}

int NamespaceCommand::list_ana(const ControlOptions& control) const {
  auto answer = control_call(control, "ana.list", Json::object());
  if (!answer.ok()) return fail_control(kProgram, control, answer.status());
  Json all = answer->value("states", Json::array());
  return show(kProgram, control, all,
              render_table(all, {{"Port", "port", Kind::kText, 1},
                                 {"Address", "address"},
                                 {"Group", "group", Kind::kText, 2},
                                 {"State", "state"}}));
}

int NamespaceCommand::change(const ControlOptions& control, const char* method, Json params) const {
  auto answer = control_call(control, method, std::move(params));
  if (!answer.ok()) return fail_control(kProgram, control, answer.status());
  Json rows = Json::array({*answer});
  return show(kProgram, control, *answer, answer->empty() ? "" : render_table(rows, columns()));
}

int NamespaceCommand::run(const ControlOptions& control) const {
  if (*set_) {
    return change(control, "ana.set", {{"port", port_}, {"group", group_}, {"state", state_}});
  }
  if (*ana_) return list_ana(control);
  if (*remove_) {
    return change(control, "namespace.remove", {{"subsystem", subsystem_}, {"nsid", nsid_}});
  }
  if (*replace_) {
    return change(control, "namespace.replace",
                  {{"subsystem", subsystem_}, {"nsid", nsid_}, {"device", device_}});
  }
  if (*add_) {
    return change(control, "namespace.add",
                  {{"subsystem", subsystem_},
                   {"device", device_},
                   {"uuid", uuid_},
                   {"nsid", nsid_},
                   {"ana_group", group_},
                   {"read_only", read_only_}});
  }
  return list(control);
}

}  // namespace bb::program
