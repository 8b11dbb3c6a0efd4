// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <nlohmann/json.hpp>

#include "capi/handle.h"
#include "io/prometheus.h"
#include "io/stats_collect.h"

using bb::io::IoKind;
using bb::io::ObjectStats;
using bb::io::StatsReport;
namespace capi = bb::capi;

namespace bb::capi {
namespace {

uint64_t event(const ObjectStats& row, std::string_view name) {
  for (const auto& [known, count] : row.events) {
    if (known == name) return count;
  }
  return 0;
}

bb_io_counters counters_of(const ObjectStats& row) {
  bb_io_counters out = BB_IO_COUNTERS_INIT;
  const io::IoStats::Kind& reads = row.io.kind(IoKind::kRead);
  const io::IoStats::Kind& writes = row.io.kind(IoKind::kWrite);
  const io::IoStats::Kind& others = row.io.kind(IoKind::kOther);
  out.in_flight = row.in_flight;
  out.reads = reads.count();
  out.writes = writes.count();
  out.others = others.count();
  out.read_bytes = reads.bytes;
  out.written_bytes = writes.bytes;
  out.other_bytes = others.bytes;
  out.read_errors = reads.errors;
  out.write_errors = writes.errors;
  out.other_errors = others.errors;
  out.digest_errors = event(row, "digest_errors");
  out.reconnects = event(row, "reconnects");
  out.retries = event(row, "retries");
  return out;
}

}  // namespace

void watch(bb_runtime* runtime, const StatsSource& source) {
  std::lock_guard lock(runtime->sources_mutex);
  runtime->sources.push_back(&source);
}

void unwatch(bb_runtime* runtime, const StatsSource& source) {
  std::lock_guard lock(runtime->sources_mutex);
  std::erase(runtime->sources, &source);
}

int get_counters(const char* call, bb_runtime* runtime, const StatsSource& source,
                 bb_io_counters* counters) {
  if (counters->struct_size < sizeof(uint32_t) || counters->struct_size > 65536) {
    return invalid(
        fmt::format("{}: struct_size is {}: use BB_IO_COUNTERS_INIT", call, counters->struct_size));
  }
  bb_io_counters full = BB_IO_COUNTERS_INIT;
  on_loop(runtime, [&] {
    StatsReport report;
    source.collect(&report);
    full = counters_of(report.objects.front());
    full.connections = static_cast<uint32_t>(report.objects.size() - 1);
  });
  full.struct_size = counters->struct_size;
  std::memcpy(counters, &full, std::min<size_t>(counters->struct_size, sizeof full));
  return BB_OK;
}

int get_stats(bb_runtime* runtime, const StatsSource& source, char** json) {
  std::string text;
  on_loop(runtime, [&] {
    StatsReport report = io::begin_report(runtime->runtime->reactor());
    source.collect(&report);
    report.sort_records();
    Json all = io::encode_object(report.objects.front(), true);
    if (all["type"] == "export") {
      all["connections"] = Json::array();
      for (size_t i = 1; i < report.objects.size(); ++i) {
        all["connections"].push_back(io::encode_object(report.objects[i], true));
      }
    }
    all["slow"] = io::encode_records(report.slow, report);
    all["failed"] = io::encode_records(report.failed, report);
    text = dump_json(all);
  });
  *json = copy_text(text);
  return BB_OK;
}

}  // namespace bb::capi

void bb_device::collect(StatsReport* into) const { bb::io::collect_device(*device, into); }

int bb_device_get_counters(bb_device* device, bb_io_counters* counters) {
  if (device == nullptr || counters == nullptr) {
    return capi::invalid("bb_device_get_counters: an argument is NULL");
  }
  return capi::get_counters("bb_device_get_counters", device->runtime, *device, counters);
}

int bb_device_get_stats(bb_device* device, char** json) {
  if (device == nullptr || json == nullptr) {
    return capi::invalid("bb_device_get_stats: an argument is NULL");
  }
  return capi::get_stats(device->runtime, *device, json);
}

int bb_runtime_get_metrics(bb_runtime* runtime, char** text) {
  if (runtime == nullptr || text == nullptr) {
    return capi::invalid("bb_runtime_get_metrics: an argument is NULL");
  }
  StatsReport report;
  capi::on_loop(runtime, [&] {
    std::lock_guard lock(runtime->sources_mutex);
    for (const capi::StatsSource* source : runtime->sources) source->collect(&report);
  });
  *text = capi::copy_text(bb::io::encode_prometheus(report.objects));
  return BB_OK;
}
