// SPDX-License-Identifier: Apache-2.0
#include "raid/scrub_log.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "base/crc32c.h"

namespace bb::raid {
namespace {

constexpr std::string_view kMagic = "BBSL";
constexpr uint32_t kVersion = 1;
constexpr uint64_t kRepairedBit = 1;
constexpr uint64_t kBlockBytes = 4 * KiB;

// Offsets of docs/formats/scrub-log.md.
enum At : size_t {
  kAtMagic = 0,
  kAtVersion = 4,
  kAtCrc = 8,
  kAtGeneration = 16,
  kAtArray = 24,
  kAtCreated = 40,
  kAtRuns = 64,
};
enum AtRun : size_t {
  kAtState = 0,
  kAtFlags = 2,
  kAtFindingCount = 4,
  kAtBegun = 8,
  kAtEnded = 16,
  kAtPosition = 24,
  kAtChecked = 32,
  kAtSkipped = 40,
  kAtRepaired = 48,
  kAtUnrepaired = 56,
  kAtFindings = 64,
};
constexpr size_t kRunBytes = kAtFindings + kScrubLogFindingsMax * sizeof(uint64_t);
static_assert(kAtRuns + (1 + kScrubHistoryMax) * kRunBytes == kScrubLogBytes);

void encode_run(const ScrubRun& run, std::byte* at) {
  const ScrubReport& report = run.report;
  size_t count = std::min(report.findings.size(), kScrubLogFindingsMax);
  store_le<uint16_t>(at + kAtState, static_cast<uint16_t>(run.state));
  store_le<uint16_t>(at + kAtFlags, run.scheduled ? 1 : 0);
  store_le<uint32_t>(at + kAtFindingCount, static_cast<uint32_t>(count));
  store_le<uint64_t>(at + kAtBegun, run.begun_wall_ns);
  store_le<uint64_t>(at + kAtEnded, run.ended_wall_ns);
  store_le<uint64_t>(at + kAtPosition, run.position_bytes);
  store_le<uint64_t>(at + kAtChecked, report.checked_bytes);
  store_le<uint64_t>(at + kAtSkipped, report.skipped_bytes);
  store_le<uint64_t>(at + kAtRepaired, report.repaired_blocks);
  store_le<uint64_t>(at + kAtUnrepaired, report.unrepaired_blocks);
  for (size_t i = 0; i < count; ++i) {
    uint64_t mark = report.findings[i].repaired ? kRepairedBit : 0;
    store_le<uint64_t>(at + kAtFindings + i * sizeof(uint64_t),
                       report.findings[i].offset_bytes | mark);
  }
}

Result<ScrubRun> decode_run(const std::byte* at, size_t number) {
  ScrubRun run;
  auto state = load_le<uint16_t>(at + kAtState);
  auto flags = load_le<uint16_t>(at + kAtFlags);
  auto count = load_le<uint32_t>(at + kAtFindingCount);
  if (state > static_cast<uint16_t>(ScrubState::kFailed) || flags > 1) {
    return error(Code::k_corrupt, "scrub log: run {} has state {} (max {}) and flags {} (max 1)",
                 number, state, static_cast<uint16_t>(ScrubState::kFailed), flags);
  }
  if (count > kScrubLogFindingsMax) {
    return error(Code::k_corrupt, "scrub log: run {} has {} findings (max {})", number, count,
                 kScrubLogFindingsMax);
  }
  run.state = static_cast<ScrubState>(state);
  run.scheduled = flags == 1;
  run.begun_wall_ns = load_le<uint64_t>(at + kAtBegun);
  run.ended_wall_ns = load_le<uint64_t>(at + kAtEnded);
  run.position_bytes = load_le<uint64_t>(at + kAtPosition);
  run.report.checked_bytes = load_le<uint64_t>(at + kAtChecked);
  run.report.skipped_bytes = load_le<uint64_t>(at + kAtSkipped);
  run.report.repaired_blocks = load_le<uint64_t>(at + kAtRepaired);
  run.report.unrepaired_blocks = load_le<uint64_t>(at + kAtUnrepaired);
  if (run.position_bytes % kBlockBytes != 0) {
    return error(Code::k_corrupt, "scrub log: run {} is at byte {}, not a multiple of {}", number,
                 run.position_bytes, kBlockBytes);
  }
  for (size_t i = 0; i < count; ++i) {
    auto found = load_le<uint64_t>(at + kAtFindings + i * sizeof(uint64_t));
    uint64_t offset = found & ~kRepairedBit;
    if (offset % kBlockBytes != 0) {
      return error(Code::k_corrupt, "scrub log: finding {} of run {} is at byte {}", i, number,
                   offset);
    }
    run.report.findings.push_back({offset, (found & kRepairedBit) != 0});
  }
  return run;
}

}  // namespace

void ScrubReport::add(const ScrubReport& more) {
  checked_bytes += more.checked_bytes;
  skipped_bytes += more.skipped_bytes;
  repaired_blocks += more.repaired_blocks;
  unrepaired_blocks += more.unrepaired_blocks;
  size_t room = kFindingsMax - std::min(findings.size(), kFindingsMax);
  size_t count = std::min(room, more.findings.size());
  findings.insert(findings.end(), more.findings.begin(),
                  more.findings.begin() + static_cast<ptrdiff_t>(count));
}

const char* scrub_state_name(ScrubState state) {
  switch (state) {
    case ScrubState::kNone:
      return "never";
    case ScrubState::kRunning:
      return "running";
    case ScrubState::kPaused:
      return "paused";
    case ScrubState::kDone:
      return "done";
    case ScrubState::kCancelled:
      return "cancelled";
    case ScrubState::kFailed:
      return "failed";
  }
  return "unknown";
}

void ScrubLog::end(ScrubState state, uint64_t now_wall_ns) {
  if (!open) return;
  open->state = state;
  open->ended_wall_ns = now_wall_ns;
  history.insert(history.begin(), std::move(*open));
  open.reset();
  if (history.size() > kScrubHistoryMax) history.resize(kScrubHistoryMax);
}

void encode_scrub_log(const ScrubLog& log, Bytes into) {
  BB_CHECK(into.size() == kScrubLogBytes, "a scrub log of {} bytes", into.size());
  std::memset(into.data(), 0, into.size());
  std::byte* at = into.data();
  std::memcpy(at + kAtMagic, kMagic.data(), kMagic.size());
  store_le<uint32_t>(at + kAtVersion, kVersion);
  store_le<uint64_t>(at + kAtGeneration, log.generation);
  std::memcpy(at + kAtArray, log.array.bytes.data(), 16);
  store_le<uint64_t>(at + kAtCreated, log.created_wall_ns);
  if (log.open) encode_run(*log.open, at + kAtRuns);
  for (size_t i = 0; i < std::min(log.history.size(), kScrubHistoryMax); ++i) {
    encode_run(log.history[i], at + kAtRuns + (i + 1) * kRunBytes);
  }
  store_le<uint32_t>(at + kAtCrc, crc32c_around(into, kAtCrc));
}

Result<ScrubLog> decode_scrub_log(const Uuid& array, uint64_t created_wall_ns, ConstBytes from) {
  BB_CHECK(from.size() == kScrubLogBytes, "a scrub log of {} bytes", from.size());
  const std::byte* at = from.data();
  if (as_text(from.subspan(kAtMagic, kMagic.size())) != kMagic) {
    return error(Code::k_not_found, "no scrub log");
  }
  if (load_le<uint32_t>(at + kAtCrc) != crc32c_around(from, kAtCrc)) {
    return error(Code::k_corrupt, "scrub log: wrong checksum");
  }
  auto version = load_le<uint32_t>(at + kAtVersion);
  if (version != kVersion) {
    return error(Code::k_not_supported, "scrub log: version {}, and {} is known", version,
                 kVersion);
  }
  ScrubLog log;
  std::memcpy(log.array.bytes.data(), at + kAtArray, 16);
  log.created_wall_ns = load_le<uint64_t>(at + kAtCreated);
  if (log.array != array || log.created_wall_ns != created_wall_ns) {
    return error(Code::k_not_found, "a scrub log of array {}", log.array.to_string());
  }
  log.generation = load_le<uint64_t>(at + kAtGeneration);
  for (size_t i = 0; i <= kScrubHistoryMax; ++i) {
    BB_ASSIGN(ScrubRun run, decode_run(at + kAtRuns + i * kRunBytes, i));
    if (run.state == ScrubState::kNone) continue;
    bool open = run.state == ScrubState::kRunning || run.state == ScrubState::kPaused;
    if (open != (i == 0)) {
      return error(Code::k_corrupt, "scrub log: run {} is {}", i, scrub_state_name(run.state));
    }
    if (open) {
      log.open = std::move(run);
    } else {
      log.history.push_back(std::move(run));
    }
  }
  return log;
}

}  // namespace bb::raid
