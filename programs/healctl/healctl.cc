// SPDX-License-Identifier: Apache-2.0
#include <ctime>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "common/command_line.h"
#include "common/control.h"
#include "common/failure.h"
#include "raid/level.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "healctl";
using Kind = Shown::Kind;

struct Arguments {
  ControlOptions control;
  std::string name;
  std::string drive;
  std::string raid = "1.2";
  std::string chunk;
  std::string integrity;
  std::string bitmap_chunk;
  std::vector<std::string> from, select, reject, unique;
  bool spread = true;
  bool explain = false;
  bool assume_clean = false;
  std::string scrub_action;  // of array.scrub; "status" asks only
};

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

// The columns of `list` that are made of several fields.
Json list_row(const Json& array) {
  Json row = array;
  row["members_text"] = fmt::format("{}/{}", dump_json(array.value("members_in_sync", Json(0))),
                                    dump_json(array.value("members_wanted", Json(0))));
  std::string used_by;
  for (const Json& one : array.value("exports", Json::array())) {
    if (!used_by.empty()) used_by += ", ";
    auto protocol = one.find("protocol");
    if (protocol != one.end() && protocol->is_string()) {
      used_by += protocol->get_ref<const std::string&>();
    }
  }
  row["used_by"] = used_by;
  return row;
}

std::string render_arrays(const Json& arrays) {
  Json rows = Json::array();
  for (const Json& array : arrays) rows.push_back(list_row(array));
  return render_table(rows, {{"Name", "name", Kind::kText, 1},
                             {"State", "state"},
                             {"Capacity", "capacity_bytes", Kind::kSize},
                             {"RAID", "raid"},
                             {"Members", "members_text"},
                             {"Domains", "domains"},
                             {"Used by", "used_by"}});
}

std::string render_array(std::string title, const Json& array) {
  Json row = list_row(array);
  Json resync = array.value("resync", Json::object());
  row["sync"] = resync.value("text", Json(""));
  row["scrub_text"] = array.value("scrub", Json::object()).value("text", Json(""));
  std::string out = render_record(std::move(title), row,
                                  {{"state", "state"},
                                   {"detail", "detail"},
                                   {"raid", "raid"},
                                   {"chunk", "chunk_bytes", Kind::kSize},
                                   {"integrity", "integrity"},
                                   {"capacity", "capacity_bytes", Kind::kSize},
                                   {"members", "members_text"},
                                   {"domains", "domains"},
                                   {"query", "query"},
                                   {"spread", "spread"},
                                   {"bitmap chunk", "region_size_bytes", Kind::kSize},
                                   {"dirty chunks", "dirty_regions"},
                                   {"sync", "sync"},
                                   {"scrub", "scrub_text"},
                                   {"version", "version"},
                                   {"epoch", "epoch"},
                                   {"last change", "reason"},
                                   {"uuid", "uuid"}});
  out += "\n" + render_table(array.value("members", Json::array()),
                             {{"Drive", "drive"},
                              {"Place", "place"},
                              {"Disk node", "disk_node"},
                              {"State", "state"},
                              {"Generation", "generation"},
                              {"Behind", "behind_bytes", Kind::kSize},
                              {"Errors", "errors"},
                              {"Checksum errors", "checksum_errors"},
                              {"Detail", "detail"}});
  Json exports = array.value("exports", Json::array());
  if (!exports.empty()) {
    out += "\n" + render_table(exports, {{"Protocol", "protocol"}, {"URI", "uri"}});
  }
  return out;
}

int finish(const Arguments& arguments, const Result<Json>& answer, const char* title) {
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  std::string name = answer->value("name", Json("")).get<std::string>();
  std::string heading = fmt::format("{} {}", title, name);
  // stop and remove answer with little more than the name.
  std::string table = answer->contains("members")
                          ? render_array(heading, *answer)
                          : render_record(heading, *answer, {{"state", "state"}});
  return show(kProgram, arguments.control, *answer, table);
}

int explain(const Arguments& arguments, const raid::Shape& shape, const Json& create) {
  Json params{{"query", create["query"]},
              {"explain", true},
              {"members", shape.members},
              {"spread", create["spread"]}};
  auto answer = control_call(arguments.control, "drive.list", std::move(params));
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  std::string table = render_table(answer->value("drives", Json::array()),
                                   {{"Id", "id"},
                                    {"Disk node", "disk_node"},
                                    {"Slot", "slot"},
                                    {"Capacity", "capacity_bytes", Kind::kSize},
                                    {"State", "state"},
                                    {"Refused because", "reason"}});
  return show(kProgram, arguments.control, *answer, table);
}

int create(const Arguments& arguments) {
  Json params{{"name", arguments.name},
              {"query", query_text(arguments)},
              {"spread", arguments.spread},
              {"assume_clean", arguments.assume_clean}};
  const struct {
    const char* option;
    const std::string& text;
    const char* field;
  } sizes[] = {{"--chunk", arguments.chunk, "chunk_bytes"},
               {"--bitmap-chunk", arguments.bitmap_chunk, "region_bytes"}};
  uint64_t chunk_bytes = 0;
  for (const auto& size : sizes) {
    if (size.text.empty()) continue;
    auto bytes = parse_size_bytes(size.text);
    if (!bytes.ok()) {
      return fail_control(kProgram, arguments.control, bytes.status().with_context(size.option));
    }
    params[size.field] = *bytes;
    if (&size == sizes) chunk_bytes = *bytes;
  }
  auto shape = raid::parse_shape(arguments.raid, chunk_bytes);
  if (!shape.ok()) {
    return fail_control(kProgram, arguments.control, shape.status().with_context("--raid"));
  }
  params["raid"] = arguments.raid;
  if (!arguments.integrity.empty()) params["integrity"] = arguments.integrity;
  if (arguments.explain) return explain(arguments, *shape, params);
  return finish(arguments, control_call(arguments.control, "array.create", std::move(params)),
                "Created array");
}

int list(const Arguments& arguments) {
  auto answer = control_call(arguments.control, "array.list", Json::object());
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  Json arrays = answer->value("arrays", Json::array());
  return show(kProgram, arguments.control, arrays, render_arrays(arrays));
}

int info(const Arguments& arguments) {
  auto answer = control_call(arguments.control, "array.info", {{"name", arguments.name}});
  if (!answer.ok() || !arguments.explain) return finish(arguments, answer, "Array");
  std::string text = fmt::format("Array {} is {}.\n", arguments.name,
                                 answer->value("state", Json("")).get<std::string>());
  for (const Json& sentence : answer->value("explanation", Json::array())) {
    text += fmt::format("- {}\n", sentence.get<std::string>());
  }
  return show(kProgram, arguments.control, *answer, text);
}

int on_array(const Arguments& arguments, const char* method, const char* title) {
  Json params{{"name", arguments.name}};
  if (!arguments.drive.empty()) params["drive"] = arguments.drive;
  return finish(arguments, control_call(arguments.control, method, std::move(params)), title);
}

// Local time; "" for none.
std::string when_text(uint64_t wall_ns) {
  if (wall_ns == 0) return "";
  auto seconds = static_cast<time_t>(wall_ns / kNsPerSecond);
  tm local{};
  localtime_r(&seconds, &local);
  char text[32] = "";
  (void)strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local);
  return text;
}

Json scrub_rows(const Json& scrub) {
  Json rows = Json::array();
  for (const Json& run : scrub.value("history", Json::array())) {
    Json row = run;
    row["begun"] = when_text(run.value("begun_wall_ns", uint64_t{0}));
    row["ended"] = when_text(run.value("ended_wall_ns", uint64_t{0}));
    row["by"] = run.value("scheduled", false) ? "schedule" : "operator";
    rows.push_back(std::move(row));
  }
  return rows;
}

int scrub(const Arguments& arguments) {
  const std::string& action = arguments.scrub_action;
  if (action != "status") {
    Json params{{"name", arguments.name}};
    if (!action.empty()) params["action"] = action;
    return finish(arguments, control_call(arguments.control, "array.scrub", std::move(params)),
                  "Array");
  }
  auto answer = control_call(arguments.control, "array.info", {{"name", arguments.name}});
  if (!answer.ok()) return fail_control(kProgram, arguments.control, answer.status());
  Json scrub = answer->value("scrub", Json::object());
  std::string text = render_record(fmt::format("Scrub of array {}", arguments.name), scrub,
                                   {{"state", "state"},
                                    {"result", "text"},
                                    {"detail", "detail"},
                                    {"done", "done_bytes", Kind::kSize},
                                    {"of", "total_bytes", Kind::kSize},
                                    {"repaired blocks", "repaired_blocks"},
                                    {"unrepaired blocks", "unrepaired_blocks"}});
  Json rows = scrub_rows(scrub);
  if (!rows.empty()) {
    text += "\n" + render_table(rows, {{"Begun", "begun"},
                                       {"Ended", "ended"},
                                       {"By", "by"},
                                       {"State", "state"},
                                       {"Checked", "checked_bytes", Kind::kSize},
                                       {"Repaired", "repaired_blocks"},
                                       {"Unrepaired", "unrepaired_blocks"}});
  }
  return show(kProgram, arguments.control, scrub, text);
}

void add_scrub_options(CLI::App* command, Arguments* arguments) {
  const struct {
    const char* name;
    const char* action;
    const char* text;
  } options[] = {
      {"--start", "start", "from the beginning, also if one was interrupted or paused"},
      {"--resume", "resume", "from where one was interrupted or paused, if there is one (default)"},
      {"--pause", "pause", "stop it for now; it goes on with --resume"},
      {"--cancel", "cancel", "end it for good"},
      {"--status,--history", "status", "only tell of it, and of those that ended"},
  };
  CLI::Option_group* group = command->add_option_group("what to do");
  group->require_option(0, 1);
  for (const auto& option : options) {
    const char* action = option.action;
    group->add_flag_callback(
        option.name, [arguments, action] { arguments->scrub_action = action; }, option.text);
  }
}

struct Verb {
  const char* name;
  const char* text;
  bool takes_drive;
  const char* method;
  const char* title;
};
constexpr Verb kVerbs[] = {
    {"info", "everything about one array", false, "array.info", "Array"},
    {"fail", "treat a member as failed", true, "array.fail", "Array"},
    {"readmit", "let a failed member come back, with a resync", true, "array.readmit", "Array"},
    {"scrub", "compare every copy of everything, in the background", false, "array.scrub", "Array"},
    {"start", "start an array that was stopped", false, "array.start", "Started array"},
    {"stop", "stop an array that nobody uses", false, "array.stop", "Stopped array"},
    {"remove", "remove an array and free its drives", false, "array.remove", "Removed array"},
};

CLI::App* add_create(CLI::App& app, Arguments* arguments) {
  CLI::App* command = app.add_subcommand("create", "make an array of free drives");
  command->fallthrough();
  command->add_option("--name", arguments->name, "its name, unique, for good")->required();
  command
      ->add_option("--raid", arguments->raid,
                   "LEVEL.MEMBERS[.COPIES], such as 1.2, 5.4, 6.8, 10.4, 1E.3, 0.2")
      ->capture_default_str();
  auto clause = [command](const char* name, std::vector<std::string>* values, const char* text) {
    command->add_option(name, *values, text)->allow_extra_args(false);
  };
  clause("--from", &arguments->from, "candidates: KEY=VALUE; repeated clauses are OR-ed");
  clause("--select", &arguments->select, "keep matches: KEY=VALUE; repeated clauses are AND-ed");
  clause("--reject", &arguments->reject, "remove what matches KEY=VALUE");
  clause("--unique", &arguments->unique, "no two members share a value of KEY");
  command->add_flag("--spread,!--no-spread", arguments->spread,
                    "every member in another failure domain (the default)");
  command->add_flag("--explain", arguments->explain,
                    "create nothing; list the drives with the reasons of those refused");
  command->add_flag("--assume-clean", arguments->assume_clean,
                    "copies are equal already: no first sync (5 and 6 are zeroed in any case)");
  command->add_option("--chunk", arguments->chunk,
                      "consecutive bytes on one drive, such as 64KiB; not of level 1");
  command->add_option("--integrity", arguments->integrity,
                      "crc32c: a checksum of each 4KiB of each drive; or none (default: crc32c, "
                      "none for level 0)");
  command->add_option("--bitmap-chunk", arguments->bitmap_chunk,
                      "bytes that one bit of the bitmap stands for, such as 4MiB");
  return command;
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("HEAL arrays: redundant devices made of drives", kProgram);
  app.require_subcommand(0, 1);
  app.fallthrough();
  add_control_options(app, &arguments.control);
  CLI::App* create_command = add_create(app, &arguments);
  CLI::App* list_command = app.add_subcommand("list", "all arrays (the default verb)");
  list_command->fallthrough();
  std::vector<CLI::App*> commands;
  for (const Verb& verb : kVerbs) {
    CLI::App* command = app.add_subcommand(verb.name, verb.text);
    command->fallthrough();
    command->add_option("array", arguments.name, "name of the array")->required();
    if (verb.takes_drive) {
      command->add_option("drive", arguments.drive, "id of the drive, or its place")->required();
    }
    if (command->get_name() == "info") {
      command->add_flag("--explain", arguments.explain,
                        "in words: why it is in its state, and what happens next");
    }
    if (command->get_name() == "scrub") add_scrub_options(command, &arguments);
    commands.push_back(command);
  }
  if (auto status = parse_command_line(app, argc, argv, ".SH SEE ALSO\n.BR bb (1)\n")) {
    return *status;
  }
  if (*create_command) return create(arguments);
  for (size_t i = 0; i < commands.size(); ++i) {
    if (*commands[i] && commands[i]->get_name() == "info") return info(arguments);
    if (*commands[i] && commands[i]->get_name() == "scrub") return scrub(arguments);
    if (*commands[i]) return on_array(arguments, kVerbs[i].method, kVerbs[i].title);
  }
  return list(arguments);
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
