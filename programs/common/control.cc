// SPDX-License-Identifier: Apache-2.0
#include "common/control.h"

#include <nlohmann/json.hpp>

#include "base/units.h"
#include "common/failure.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/rpc/rpc_client.h"
#include "io/tcp.h"

namespace bb::program {
namespace {

io::Address address_of(const std::string& socket) {
  if (socket.starts_with("unix:")) return {socket};
  if (socket.starts_with('/') || socket.starts_with('.')) return {"unix:" + socket};
  return {socket};
}

io::Task<Result<Json>> call_once(io::Context context, io::Address to, std::string method,
                                 Json params, uint64_t deadline_ns) {
  auto client = co_await io::rpc::RpcClient::connect(context, std::move(to), deadline_ns);
  if (!client.ok()) co_return client.status();
  auto answer = co_await (*client)->call(std::move(method), std::move(params), deadline_ns);
  co_await (*client)->close();
  co_return answer;
}

std::string text_of(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get_ref<const std::string&>();
  return dump_json(value);
}

ShowAs show_as(const ControlOptions& options) {
  if (options.output == "json") return ShowAs::kJson;
  return options.output == "yaml" ? ShowAs::kYaml : ShowAs::kTable;
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string yaml_scalar(const Json& value) {
  return dump_json(value);  // JSON scalars are YAML scalars, quoted texts included
}

void yaml_into(const Json& value, size_t indent, std::string* out) {
  std::string margin(indent, ' ');
  if (value.is_object()) {
    for (auto field = value.begin(); field != value.end(); ++field) {
      bool nested = field->is_structured() && !field->empty();
      *out += fmt::format("{}{}:{}", margin, field.key(),
                          nested ? "\n" : " " + yaml_scalar(*field) + "\n");
      if (nested) yaml_into(*field, indent + 2, out);
    }
    return;
  }
  for (const Json& entry : value) {
    if (!entry.is_structured() || entry.empty()) {
      *out += fmt::format("{}- {}\n", margin, yaml_scalar(entry));
      continue;
    }
    std::string nested;
    yaml_into(entry, indent + 2, &nested);
    nested[indent] = '-';
    *out += nested;
  }
}

}  // namespace

void add_control_options(CLI::App& app, ControlOptions* options) {
  app.add_option("--socket", options->socket, "control socket of the daemon: a path or host:port")
      ->envname("BB_SOCKET")
      ->capture_default_str();
  app.add_option("-o,--output", options->output, "table, json or yaml")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  app.add_option("--field", options->field, "print the value of this field only");
  app.add_option("--timeout", options->timeout_s, "seconds to wait for the answer")
      ->check(CLI::Range(1u, 86'400u))
      ->capture_default_str();
}

Result<Json> control_call(const ControlOptions& options, std::string method, Json params) {
  // One question, one answer: no ring has to be made for that, nor a word said if it cannot be.
  BB_ASSIGN(auto reactor, io::Reactor::create({.engine = io::EngineKind::kEpoll}));
  io::Offload offload;
  auto network = io::make_tcp_network(*reactor, &offload);
  io::Context context{*reactor, *network, reactor.get(), &offload};
  uint64_t deadline_ns = reactor->now_ns() + options.timeout_s * kNsPerSecond;
  return reactor->block_on(call_once(context, address_of(options.socket), std::move(method),
                                     std::move(params), deadline_ns));
}

Cell cell_of(const Json& row, const Shown& shown) {
  auto found = row.find(shown.key);
  if (found == row.end() || found->is_null()) return {};
  if (shown.kind == Shown::Kind::kSize && found->is_number_unsigned()) {
    return Cell::size(found->get<uint64_t>());
  }
  std::string text = text_of(*found);
  return text.empty() ? Cell() : Cell(std::move(text));
}

std::string render_table(const Json& rows, const std::vector<Shown>& columns) {
  std::vector<Table::Column> titles;
  titles.reserve(columns.size());
  for (const Shown& column : columns) titles.emplace_back(column.title, column.sort_rank);
  Table table(std::move(titles));
  for (const Json& row : rows) {
    std::vector<Cell> cells;
    cells.reserve(columns.size());
    for (const Shown& column : columns) cells.push_back(cell_of(row, column));
    table.add(std::move(cells));
  }
  return table.render(OutputFormat::kTable);
}

std::string render_record(std::string title, const Json& row, const std::vector<Shown>& lines) {
  Record record(std::move(title));
  for (const Shown& line : lines) record.add(line.title, cell_of(row, line));
  return record.render(OutputFormat::kTable);
}

std::string render_yaml(const Json& value) {
  if (!value.is_structured() || value.empty()) return yaml_scalar(value) + "\n";
  std::string out;
  yaml_into(value, 0, &out);
  return out;
}

Result<std::string> render_field(const Json& value, const std::string& field) {
  std::string out;
  Json rows = value.is_array() ? value : Json::array({value});
  for (const Json& row : rows) {
    auto found = row.find(field);
    if (found == row.end()) {
      std::vector<std::string> names;
      for (auto one = row.begin(); one != row.end(); ++one) names.push_back(one.key());
      return error(Code::k_invalid_argument, "no field \"{}\"; there are {}", field,
                   fmt::join(names, ", "));
    }
    out += text_of(*found) + "\n";
  }
  return out;
}

int show(std::string_view program, const ControlOptions& options, const Json& value,
         const std::string& table) {
  if (!options.field.empty()) {
    auto values = render_field(value, options.field);
    if (!values.ok()) return fail_control(program, options, values.status());
    print(*values);
    return 0;
  }
  switch (show_as(options)) {
    case ShowAs::kTable:
      print(table);
      break;
    case ShowAs::kJson:
      print(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
      break;
    case ShowAs::kYaml:
      print(render_yaml(value));
      break;
  }
  return 0;
}

int fail_control(std::string_view program, const ControlOptions& options, const Status& status,
                 std::string_view hint) {
  OutputFormat format =
      show_as(options) == ShowAs::kJson ? OutputFormat::kJson : OutputFormat::kTable;
  std::string instead(hint);
  if (instead.empty() && status.code() == Code::k_unavailable) {
    instead = fmt::format("is the daemon running, and is its control socket {}?", options.socket);
  }
  return fail(program, status, instead, format);
}

}  // namespace bb::program
