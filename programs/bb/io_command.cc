// SPDX-License-Identifier: Apache-2.0
#include "bb/io_command.h"

#include <unistd.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <thread>

#include "common/io_table.h"
#include "io/prometheus.h"

namespace bb::program {
namespace {

constexpr const char* kProgram = "bb";
constexpr size_t kPageObjectsMax = 1u << 20;
constexpr const char* kClearScreen = "\033[H\033[2J";

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// One answer of io.stats: adds its objects, gives where the next begins; null: there is none.
Result<Json> take_page(const Json& answer, uint64_t from, IoLook& into) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(answer, "io.stats"));
  BB_ASSIGN(into.taken_ns, fields.u64("taken_ns"));
  BB_ASSIGN(const Json* objects, fields.list("objects", kPageObjectsMax));
  for (const Json& object : *objects) {
    BB_ASSIGN(io::ObjectStats decoded, io::decode_object(object));
    into.objects.push_back(std::move(decoded));
  }
  if (!fields.has("next")) return Json();
  BB_ASSIGN(uint64_t next, fields.u64("next"));
  if (next <= from) return error(Code::k_internal, "io.stats: after {} comes {}", from, next);
  return Json(next);
}

// All objects of the daemon, in as many answers as that takes.
Result<IoLook> look(const ControlOptions& control) {
  IoLook all;
  Json from = 0u;
  while (!from.is_null()) {
    BB_ASSIGN(Json answer, control_call(control, "io.stats", {{"from", from}, {"buckets", true}}));
    auto next = take_page(answer, from.get<uint64_t>(), all);
    if (!next.ok()) {
      return error(Code::k_internal, "the daemon's answer: {}", next.status().text());
    }
    from = std::move(next).value();
  }
  return all;
}

OutputFormat format_of(const ControlOptions& control) {
  return control.output == "json" ? OutputFormat::kJson : OutputFormat::kTable;
}

std::vector<Shown> record_columns() {
  return {{"Ended", "ended", Shown::Kind::kText, 1},
          {"Op", "op"},
          {"Object", "object"},
          {"Offset", "offset_bytes"},
          {"Length", "length_bytes", Shown::Kind::kSize},
          {"Receive", "receive"},
          {"Device", "device"},
          {"Send", "send"},
          {"Total", "total"},
          {"Status", "status"},
          {"Host", "host"}};
}

// Times as people read them, beside the nanoseconds.
Json with_readable_times(Json records) {
  for (Json& record : records) {
    for (const char* stage : {"receive", "device", "send", "total"}) {
      uint64_t ns = record.value(std::string(stage) + "_ns", uint64_t{0});
      record[stage] = ns == 0 ? "-" : format_latency(ns);
    }
  }
  return records;
}

}  // namespace

void IoCommand::add_to(CLI::App& app) {
  io_ = app.add_subcommand("io", "what the I/O of a daemon is like (bb-serve, too: --socket)");
  io_->require_subcommand(0, 1);
  io_->fallthrough();
  CLI::App* top = io_->add_subcommand(
      "top", "rates and latencies of devices and exports, live (the default verb)");
  top->fallthrough();
  top->add_option("--interval", interval_s_, "seconds between looks, and what rates are of")
      ->check(CLI::Range(1u, 3600u))
      ->capture_default_str();
  top->add_flag("--once", once_, "one table, after one interval; so is JSON");
  top->add_flag("--connections", connections_, "connections of hosts instead");
  slow_ = io_->add_subcommand("slow", "the last slow and the last failed commands");
  slow_->fallthrough();
  metrics_ = io_->add_subcommand("metrics", "everything as Prometheus text");
  metrics_->fallthrough();
}

std::optional<int> IoCommand::run(const ControlOptions& control) const {
  if (!*io_) return std::nullopt;
  if (*slow_) return slow(control);
  if (*metrics_) return metrics(control);
  return top(control);
}

int IoCommand::top(const ControlOptions& control) const {
  OutputFormat format = format_of(control);
  bool live = !once_ && format == OutputFormat::kTable;
  auto before = look(control);
  if (!before.ok()) return fail_control(kProgram, control, before.status());
  for (;;) {
    std::this_thread::sleep_for(std::chrono::seconds(interval_s_));
    auto now = look(control);
    if (!now.ok()) return fail_control(kProgram, control, now.status());
    std::string table = render_io_rows(io_rows(*before, *now, connections_), connections_, format);
    // On a terminal the table stays in its place; into a file it goes one after the other.
    if (live && isatty(STDOUT_FILENO) != 0) table.insert(0, kClearScreen);
    print(table);
    if (!live) return 0;
    before = std::move(now);
  }
}

int IoCommand::slow(const ControlOptions& control) const {
  auto answer = control_call(control, "io.slow", Json::object());
  if (!answer.ok()) return fail_control(kProgram, control, answer.status());
  std::string table;
  for (auto [title, key] : {std::pair("Slow", "slow"), std::pair("Failed", "failed")}) {
    Json records = with_readable_times(answer->value(key, Json::array()));
    table += fmt::format("{}== {}\n{}", table.empty() ? "" : "\n", title,
                         render_table(records, record_columns()));
  }
  return show(kProgram, control, *answer, table);
}

int IoCommand::metrics(const ControlOptions& control) const {
  auto now = look(control);
  if (!now.ok()) return fail_control(kProgram, control, now.status());
  print(io::encode_prometheus(now->objects));
  return 0;
}

}  // namespace bb::program
