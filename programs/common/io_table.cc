// SPDX-License-Identifier: Apache-2.0
#include "common/io_table.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/units.h"

namespace bb::program {
namespace {

using Key = std::tuple<std::string, std::string>;

IoRow row_of(const io::ObjectStats& object, const io::IoStats& between, double seconds) {
  IoRow row{.object = object.name, .queue = object.in_flight, .errors = object.io.errors()};
  for (const auto& [name, value] : object.labels) {
    if (name == "host") row.host = value;
  }
  const io::IoStats::Kind& reads = between.kind(io::IoKind::kRead);
  const io::IoStats::Kind& writes = between.kind(io::IoKind::kWrite);
  Histogram both = reads.stage(io::IoStage::kTotal);
  both.merge(writes.stage(io::IoStage::kTotal));
  row.p50_ns = both.quantile(0.5);
  row.p99_ns = both.quantile(0.99);
  row.p999_ns = both.quantile(0.999);
  if (seconds > 0) {
    row.reads_per_s = static_cast<double>(reads.count()) / seconds;
    row.writes_per_s = static_cast<double>(writes.count()) / seconds;
    row.bytes_per_s = static_cast<double>(reads.bytes + writes.bytes) / seconds;
  }
  return row;
}

Cell rate(double per_s) { return {fmt::format("{:.0f}", per_s), per_s}; }
Cell latency(uint64_t ns) { return ns == 0 ? Cell("-", ns) : Cell(format_latency(ns), ns); }

}  // namespace

std::vector<IoRow> io_rows(const IoLook& before, const IoLook& now, bool connections) {
  std::map<Key, const io::ObjectStats*> known;
  for (const io::ObjectStats& object : before.objects) known[{object.type, object.name}] = &object;
  double seconds = before.taken_ns == 0 || now.taken_ns <= before.taken_ns
                       ? 0
                       : static_cast<double>(now.taken_ns - before.taken_ns) / 1e9;
  std::vector<IoRow> rows;
  for (const io::ObjectStats& object : now.objects) {
    if ((object.type == "connection") != connections) continue;
    auto found = known.find({object.type, object.name});
    io::IoStats between = found == known.end() ? object.io : object.io.since(found->second->io);
    rows.push_back(row_of(object, between, seconds));
  }
  std::sort(rows.begin(), rows.end(), [](const IoRow& a, const IoRow& b) {
    double busy_a = a.reads_per_s + a.writes_per_s;
    double busy_b = b.reads_per_s + b.writes_per_s;
    return std::tie(busy_b, a.object) < std::tie(busy_a, b.object);
  });
  return rows;
}

std::string render_io_rows(const std::vector<IoRow>& rows, bool connections, OutputFormat format) {
  bool json = format == OutputFormat::kJson;
  std::vector<Table::Column> columns = {connections ? "Connection" : "Object"};
  if (connections) columns.emplace_back("Host");
  // JSON is for programs: plain numbers, and the unit in the key.
  columns.insert(columns.end(), {json ? "reads_per_s" : "r/s", json ? "writes_per_s" : "w/s",
                                 json ? "bytes_per_s" : "MB/s", json ? "p50_ns" : "p50",
                                 json ? "p99_ns" : "p99", json ? "p999_ns" : "p99.9",
                                 json ? "queue" : "Queue", json ? "errors" : "Errors"});
  Table table(std::move(columns));
  for (const IoRow& row : rows) {
    std::vector<Cell> cells = {row.object};
    if (connections) cells.emplace_back(row.host);
    cells.push_back(rate(row.reads_per_s));
    cells.push_back(rate(row.writes_per_s));
    cells.emplace_back(fmt::format("{:.1f}", row.bytes_per_s / 1e6), row.bytes_per_s);
    cells.push_back(latency(row.p50_ns));
    cells.push_back(latency(row.p99_ns));
    cells.push_back(latency(row.p999_ns));
    cells.push_back(Cell::number(row.queue));
    cells.push_back(Cell::number(row.errors));
    table.add(std::move(cells));
  }
  return table.render(format);
}

std::string format_latency(uint64_t ns) {
  struct Unit {
    uint64_t ns;
    const char* name;
  };
  for (const Unit& unit : {Unit{kNsPerSecond, "s"}, Unit{kNsPerMs, "ms"}, Unit{kNsPerUs, "us"}}) {
    if (ns < unit.ns) continue;
    double value = static_cast<double>(ns) / static_cast<double>(unit.ns);
    int digits = value < 10 ? 2 : value < 100 ? 1 : 0;
    return fmt::format("{:.{}f}{}", value, digits, unit.name);
  }
  return fmt::format("{}ns", ns);
}

}  // namespace bb::program
