// SPDX-License-Identifier: Apache-2.0
// pure: statistics as Prometheus text
#pragma once

#include <string>
#include <vector>

#include "io/stats_report.h"

namespace bb::io {

inline constexpr const char* kPrometheusContentType = "text/plain; version=0.0.4; charset=utf-8";

// The text exposition format, version 0.0.4. For each type of object:
//   bb_<type>_commands_total {op}        counter
//   bb_<type>_bytes_total {op}           counter
//   bb_<type>_errors_total {op}          counter
//   bb_<type>_events_total {event}       counter
//   bb_<type>_in_flight                  gauge
//   bb_<type>_latency_seconds {op,stage} histogram, le = the powers of two from 8 us to 17 s less a
//                                        nanosecond: ends of our buckets, so nothing is estimated
// Every row has the label <type>="<name>", and the labels of the object. Operations that never
// happened have no latency.
std::string encode_prometheus(const std::vector<ObjectStats>& objects);

}  // namespace bb::io
