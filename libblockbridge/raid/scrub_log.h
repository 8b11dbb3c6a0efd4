// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"
#include "base/uuid.h"

namespace bb::raid {

// A block of 4 KiB that some member did not hold as it should.
struct ScrubFinding {
  uint64_t offset_bytes = 0;  // of the array
  bool repaired = false;      // else no checksum decides between copies, or none is right
  bool operator==(const ScrubFinding&) const = default;
};

struct ScrubReport {
  static constexpr size_t kFindingsMax = 1000;

  uint64_t checked_bytes = 0;
  uint64_t skipped_bytes = 0;  // resync is still to compare them
  uint64_t repaired_blocks = 0, unrepaired_blocks = 0;
  std::vector<ScrubFinding> findings;  // the first kFindingsMax

  void add(uint64_t offset_bytes, bool repaired) {
    ++(repaired ? repaired_blocks : unrepaired_blocks);
    if (findings.size() < kFindingsMax) findings.push_back({offset_bytes, repaired});
  }
  void add(const ScrubReport& more);
  bool operator==(const ScrubReport&) const = default;
};

// `kRunning` that nobody runs was interrupted and is to go on; `kPaused` waits for its operator.
enum class ScrubState : uint16_t {
  kNone = 0,
  kRunning = 1,
  kPaused = 2,
  kDone = 3,
  kCancelled = 4,
  kFailed = 5,
};
const char* scrub_state_name(ScrubState state);

// A scrub of the whole array, from its begin on.
struct ScrubRun {
  ScrubState state = ScrubState::kNone;
  bool scheduled = false;  // begun by a schedule, not by an operator
  uint64_t begun_wall_ns = 0;
  uint64_t ended_wall_ns = 0;   // 0: it has not
  uint64_t position_bytes = 0;  // of the array; all before it has been compared
  ScrubReport report;
  bool operator==(const ScrubRun&) const = default;
};

inline constexpr uint64_t kScrubLogBytes = 4 * KiB;
inline constexpr uint64_t kScrubLogOffsetBytes = 8 * KiB;  // on each member
inline constexpr uint64_t kScrubLogCopies = 2;             // next to each other, written in turn
inline constexpr size_t kScrubHistoryMax = 8;
inline constexpr size_t kScrubLogFindingsMax = 48;  // of each run

// What is known of an array's scrubs, on each member (docs/formats/scrub-log.md).
struct ScrubLog {
  Uuid array;
  uint64_t created_wall_ns = 0;   // of the array: one that is made anew has no history
  uint64_t generation = 0;        // rises with every write; the highest of all members counts
  std::optional<ScrubRun> open;   // kRunning or kPaused
  std::vector<ScrubRun> history;  // that ended, the newest first, at most kScrubHistoryMax

  // What is open has ended so; it becomes the newest of the history.
  void end(ScrubState state, uint64_t now_wall_ns);
};

// Of each run the first kScrubLogFindingsMax findings. `into` has kScrubLogBytes.
void encode_scrub_log(const ScrubLog& log, Bytes into);
// NOT_FOUND: not a scrub log, or another array's. CORRUPT: damaged. NOT_SUPPORTED: a later version.
Result<ScrubLog> decode_scrub_log(const Uuid& array, uint64_t created_wall_ns, ConstBytes from);

}  // namespace bb::raid
