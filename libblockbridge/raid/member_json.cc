// SPDX-License-Identifier: Apache-2.0
#include "raid/member_json.h"

#include <nlohmann/json.hpp>

#include "io/stats_report.h"

namespace bb::raid {

Json encode_member_counters(const ArrayMemberInfo& member) {
  return {{"reads", member.reads},
          {"writes", member.writes},
          {"errors", member.errors},
          {"repaired_ranges", member.repaired_ranges},
          {"checksum_errors", member.checksum_errors},
          {"latency",
           {{"read", io::encode_histogram(member.read_ns, false)},
            {"write", io::encode_histogram(member.write_ns, false)}}}};
}

}  // namespace bb::raid
