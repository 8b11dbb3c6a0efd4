// SPDX-License-Identifier: Apache-2.0
#include "io/rpc/stats_methods.h"

#include <nlohmann/json.hpp>

namespace bb::io::rpc {
namespace {

constexpr size_t kPageBytes = kLineMax / 2;  // the last object of a page may be a large one

Task<Result<Json>> io_stats(const Loop* loop, const CollectStats* collect, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "io.stats"));
  BB_CO_ASSIGN(uint64_t from, fields.u64_or("from", 0));
  BB_CO_ASSIGN(bool buckets, fields.boolean_or("buckets", false));
  BB_CO_TRY(fields.reject_unknown());
  StatsReport report = begin_report(*loop);
  co_await (*collect)(&report);
  Json objects = Json::array();
  size_t bytes = 0;
  size_t at = from;
  for (; at < report.objects.size() && bytes < kPageBytes; ++at) {
    Json object = encode_object(report.objects[at], buckets);
    bytes += dump_json(object).size();
    objects.push_back(std::move(object));
  }
  co_return Json{{"objects", std::move(objects)},
                 {"next", at < report.objects.size() ? Json(at) : Json()},
                 {"taken_ns", report.taken_ns}};
}

Task<Result<Json>> io_slow(const Loop* loop, const CollectStats* collect, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "io.slow"));
  BB_CO_TRY(fields.reject_unknown());
  StatsReport report = begin_report(*loop);
  co_await (*collect)(&report);
  report.sort_records();
  for (auto* records : {&report.slow, &report.failed}) {
    if (records->size() > FlightRecorder::kRing) records->resize(FlightRecorder::kRing);
  }
  co_return Json{{"slow", encode_records(report.slow, report)},
                 {"failed", encode_records(report.failed, report)}};
}

}  // namespace

void add_stats_methods(RpcServer& server, const Loop& loop, CollectStats collect) {
  auto shared = std::make_shared<CollectStats>(std::move(collect));
  server.add("io.stats", [loop = &loop, shared](Json params, Call*) {
    return io_stats(loop, shared.get(), std::move(params));
  });
  server.add("io.slow", [loop = &loop, shared](Json params, Call*) {
    return io_slow(loop, shared.get(), std::move(params));
  });
}

}  // namespace bb::io::rpc
