// SPDX-License-Identifier: Apache-2.0
// pure: rows of `bb io top` out of two looks at a daemon's statistics
#pragma once

#include <string>
#include <vector>

#include "common/output.h"
#include "io/stats_report.h"

namespace bb::program {

// One look: what a daemon answered, and when by its clock.
struct IoLook {
  uint64_t taken_ns = 0;
  std::vector<io::ObjectStats> objects;
};

struct IoRow {
  std::string object;
  std::string host;  // connections
  double reads_per_s = 0;
  double writes_per_s = 0;
  double bytes_per_s = 0;
  uint64_t p50_ns = 0;  // of all reads and writes of the time between the looks
  uint64_t p99_ns = 0;
  uint64_t p999_ns = 0;
  uint64_t queue = 0;   // in flight at the second look
  uint64_t errors = 0;  // since the object began
};

// Devices and exports, or connections, busiest first. An object that is only in `now` is counted
// from zero. Without `before` (no time passed): everything since each object began, rates 0.
std::vector<IoRow> io_rows(const IoLook& before, const IoLook& now, bool connections);
std::string render_io_rows(const std::vector<IoRow>& rows, bool connections, OutputFormat format);

std::string format_latency(uint64_t ns);  // "850ns", "12.3us", "4.50ms", "1.20s"

}  // namespace bb::program
