// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/json.h"
#include "raid/array.h"

namespace bb::raid {

// What a member did, as everybody tells it: {"reads", "writes", "errors", "repaired_ranges",
// "checksum_errors", "latency": {"read": histogram, "write": histogram}} (io/stats_report.h).
Json encode_member_counters(const ArrayMemberInfo& member);

}  // namespace bb::raid
