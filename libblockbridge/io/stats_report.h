// SPDX-License-Identifier: Apache-2.0
// pure: what is told about devices, exports and connections, and its JSON
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "io/flight_recorder.h"
#include "io/io_stats.h"

namespace bb::io {

// One row of what a process can say about its I/O.
struct ObjectStats {
  std::string type;  // "device", "export", "connection"
  std::string name;  // its URI; the NQN or NBD name; "nvme-tcp 127.0.0.1:51234"
  std::vector<std::pair<std::string, std::string>> labels;  // of a connection: export, host, …
  uint64_t in_flight = 0;
  std::vector<std::pair<std::string, uint64_t>> events;  // "reconnects": 3
  IoStats io;
};

struct StatsReport {
  std::vector<ObjectStats> objects;
  std::vector<FlightRecord> slow;  // newest first, once sort_records() has run
  std::vector<FlightRecord> failed;
  uint64_t taken_ns = 0;  // loop time, like the records'
  uint64_t wall_ns = 0;   // the same moment, since 1970

  void add_records(const FlightRecorder& recorder);
  void sort_records();
};

// {"count", "sum_ns", "max_ns", "p50_ns", "p90_ns", "p99_ns", "p999_ns"} and, on request,
// "buckets":
// [[first_ns, last_ns, count]…] of those that are not empty.
Json encode_histogram(const Histogram& histogram, bool buckets);
// {"type", "name", "labels", "in_flight", "events", and for each of "read", "write", "other":
// {"count", "bytes", "errors", "latency": {stage: histogram}}}; empty stages are left out.
Json encode_object(const ObjectStats& object, bool buckets);
// {"op", "object", "nsid", "offset_bytes", "length_bytes", "status", "ended" (RFC 3339), "age_ns",
// "receive_ns", "device_ns", "send_ns", "total_ns", "host"}.
Json encode_records(const std::vector<FlightRecord>& records, const StatsReport& report);

// The way back, for whoever asked a daemon. INVALID_ARGUMENT where it has another shape.
Result<Histogram> decode_histogram(const Json& json);
Result<ObjectStats> decode_object(const Json& json);

std::string format_rfc3339(uint64_t wall_ns);  // "2026-11-01T00:00:00.000Z"

}  // namespace bb::io
