// SPDX-License-Identifier: Apache-2.0
#include "io/stats_report.h"

#include <fmt/chrono.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <tuple>

#include "base/units.h"

namespace bb::io {
namespace {

constexpr size_t kObjectLabelsMax = 16;

template <typename T>
void append(std::vector<T>& to, std::vector<T> more) {
  to.insert(to.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

Status decode_kind(const Json& json, IoStats::Kind& into) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "statistics"));
  BB_ASSIGN(into.bytes, fields.u64("bytes"));
  BB_ASSIGN(into.errors, fields.u64("errors"));
  BB_ASSIGN(const Json* latency, fields.object("latency"));
  for (IoStage stage : kIoStages) {
    auto found = latency->find(std::string(io_stage_name(stage)));
    if (found == latency->end()) continue;
    BB_ASSIGN(into.stage(stage), decode_histogram(*found));
  }
  return {};
}

}  // namespace

void StatsReport::add_records(const FlightRecorder& recorder) {
  append(slow, recorder.slow_records());
  append(failed, recorder.failed_records());
}

void StatsReport::sort_records() {
  for (auto* records : {&slow, &failed}) {
    std::sort(records->begin(), records->end(), [](const FlightRecord& a, const FlightRecord& b) {
      return std::tie(b.ended_ns, a.object, a.offset_bytes) <
             std::tie(a.ended_ns, b.object, b.offset_bytes);
    });
  }
}

Json encode_histogram(const Histogram& histogram, bool buckets) {
  Json json{{"count", histogram.count()},          {"sum_ns", histogram.sum()},
            {"max_ns", histogram.max()},           {"p50_ns", histogram.quantile(0.5)},
            {"p90_ns", histogram.quantile(0.9)},   {"p99_ns", histogram.quantile(0.99)},
            {"p999_ns", histogram.quantile(0.999)}};
  if (!buckets) return json;
  Json list = Json::array();
  for (size_t i = 0; i < Histogram::kBuckets; ++i) {
    if (histogram.bucket(i) == 0) continue;
    list.push_back({Histogram::bucket_first(i), Histogram::bucket_last(i), histogram.bucket(i)});
  }
  json["buckets"] = std::move(list);
  return json;
}

Json encode_object(const ObjectStats& object, bool buckets) {
  Json json{{"type", object.type},
            {"name", object.name},
            {"labels", Json::object()},
            {"in_flight", object.in_flight},
            {"events", Json::object()}};
  for (const auto& [name, value] : object.labels) json["labels"][name] = value;
  for (const auto& [name, count] : object.events) json["events"][name] = count;
  for (IoKind which : kIoKinds) {
    const IoStats::Kind& kind = object.io.kind(which);
    Json latency = Json::object();
    for (IoStage stage : kIoStages) {
      if (kind.stage(stage).empty()) continue;
      latency[std::string(io_stage_name(stage))] = encode_histogram(kind.stage(stage), buckets);
    }
    json[std::string(io_kind_name(which))] = {{"count", kind.count()},
                                              {"bytes", kind.bytes},
                                              {"errors", kind.errors},
                                              {"latency", std::move(latency)}};
  }
  return json;
}

std::string format_rfc3339(uint64_t wall_ns) {
  auto seconds = static_cast<time_t>(wall_ns / kNsPerSecond);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds),
                     wall_ns % kNsPerSecond / kNsPerMs);
}

Json encode_records(const std::vector<FlightRecord>& records, const StatsReport& report) {
  Json list = Json::array();
  for (const FlightRecord& record : records) {
    uint64_t age_ns = report.taken_ns > record.ended_ns ? report.taken_ns - record.ended_ns : 0;
    list.push_back({{"op", record.op},
                    {"object", record.object},
                    {"nsid", record.nsid},
                    {"offset_bytes", record.offset_bytes},
                    {"length_bytes", record.length_bytes},
                    {"status", record.status},
                    {"ended", format_rfc3339(report.wall_ns - age_ns)},
                    {"age_ns", age_ns},
                    {"receive_ns", record.receive_ns},
                    {"device_ns", record.device_ns},
                    {"send_ns", record.send_ns},
                    {"total_ns", record.total_ns},
                    {"host", record.host}});
  }
  return list;
}

Result<Histogram> decode_histogram(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "histogram"));
  BB_ASSIGN(uint64_t sum, fields.u64("sum_ns"));
  BB_ASSIGN(uint64_t max, fields.u64("max_ns"));
  BB_ASSIGN(const Json* buckets, fields.list("buckets", Histogram::kBuckets));
  Histogram out;
  for (const Json& bucket : *buckets) {
    bool right = bucket.is_array() && bucket.size() == 3 && bucket[0].is_number_unsigned() &&
                 bucket[2].is_number_unsigned();
    uint64_t first = right ? bucket[0].get<uint64_t>() : UINT64_MAX;
    if (first > Histogram::kValueMax) {
      return error(Code::k_invalid_argument, "histogram: a bucket is [first, last, count]");
    }
    out.add_bucket(Histogram::bucket_of(first), bucket[2].get<uint64_t>());
  }
  out.set_totals(sum, max);
  return out;
}

Result<ObjectStats> decode_object(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "statistics"));
  ObjectStats out;
  BB_ASSIGN(out.type, fields.text("type"));
  BB_ASSIGN(out.name, fields.text("name"));
  BB_ASSIGN(out.in_flight, fields.u64("in_flight"));
  BB_ASSIGN(const Json* labels, fields.object("labels"));
  BB_ASSIGN(const Json* events, fields.object("events"));
  if (labels->size() > kObjectLabelsMax || events->size() > kObjectLabelsMax) {
    return error(Code::k_invalid_argument, "statistics of {}: more than {} labels or events",
                 out.name, kObjectLabelsMax);
  }
  for (auto label = labels->begin(); label != labels->end(); ++label) {
    if (label->is_string()) out.labels.emplace_back(label.key(), label->get<std::string>());
  }
  for (auto event = events->begin(); event != events->end(); ++event) {
    if (event->is_number_unsigned()) out.events.emplace_back(event.key(), event->get<uint64_t>());
  }
  for (IoKind kind : kIoKinds) {
    BB_ASSIGN(const Json* of, fields.object(io_kind_name(kind)));
    BB_TRY(decode_kind(*of, out.io.kind(kind)));
  }
  return out;
}

}  // namespace bb::io
