// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "raid/scrub_log.h"

namespace bb::raid {

// What the library knows of an array's scrubs at a moment.
struct ScrubInfo {
  bool running = false;  // now, in this process; else what is open was interrupted or paused
  bool loaded = false;   // the log was looked for on the members
  uint64_t size_bytes = 0;
  std::string detail;  // why the latest one of this process did not go on
  ScrubLog log;
};

// {checked_bytes, skipped_bytes, repaired_blocks, unrepaired_blocks, findings: [{offset_bytes,
// repaired}]}
Json describe_scrub_report(const ScrubReport& report);
// The present or latest scrub, and those that ended: {state: "never", "running", "interrupted",
// "paused", "done", "cancelled" or "failed", text (for people), detail, percent, done_bytes,
// total_bytes, begun_wall_ns, ended_wall_ns, scheduled, as above, history: [the same of each]}
Json describe_scrub(const ScrubInfo& info);

}  // namespace bb::raid
