// SPDX-License-Identifier: Apache-2.0
#include "raid/scrub_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace bb::raid {
namespace {

uint64_t percent_of(const ScrubRun& run, uint64_t total_bytes) {
  uint64_t hundredth = total_bytes / 100;
  return hundredth == 0 ? 0 : std::min<uint64_t>(100, run.position_bytes / hundredth);
}

std::string text_of(const ScrubRun& run, const std::string& state, uint64_t total_bytes) {
  if (state == "never") return state;
  const ScrubReport& report = run.report;
  std::string found = fmt::format("{} blocks repaired, {} could not be", report.repaired_blocks,
                                  report.unrepaired_blocks);
  if (state == "done") return found;
  uint64_t percent = percent_of(run, total_bytes);
  if (state == "running") {
    return fmt::format("{}% of {}", percent, format_size_bytes(total_bytes));
  }
  return fmt::format("{} at {}%: {}", state, percent, found);
}

Json describe_run(const ScrubRun& run, const std::string& state, uint64_t total_bytes) {
  Json json = describe_scrub_report(run.report);
  json["state"] = state;
  json["text"] = text_of(run, state, total_bytes);
  json["percent"] = percent_of(run, total_bytes);
  json["done_bytes"] = run.position_bytes;
  json["begun_wall_ns"] = run.begun_wall_ns;
  json["ended_wall_ns"] = run.ended_wall_ns;
  json["scheduled"] = run.scheduled;
  return json;
}

}  // namespace

Json describe_scrub_report(const ScrubReport& report) {
  Json findings = Json::array();
  for (const ScrubFinding& finding : report.findings) {
    findings.push_back({{"offset_bytes", finding.offset_bytes}, {"repaired", finding.repaired}});
  }
  return {{"checked_bytes", report.checked_bytes},
          {"skipped_bytes", report.skipped_bytes},
          {"repaired_blocks", report.repaired_blocks},
          {"unrepaired_blocks", report.unrepaired_blocks},
          {"findings", std::move(findings)}};
}

Json describe_scrub(const ScrubInfo& info) {
  const ScrubLog& log = info.log;
  ScrubRun latest;
  if (log.open) {
    latest = *log.open;
  } else if (!log.history.empty()) {
    latest = log.history.front();
  }
  bool interrupted = latest.state == ScrubState::kRunning && !info.running;
  Json json = describe_run(latest, interrupted ? "interrupted" : scrub_state_name(latest.state),
                           info.size_bytes);
  json["detail"] = info.detail;
  json["total_bytes"] = info.size_bytes;
  Json history = Json::array();
  for (const ScrubRun& run : log.history) {
    history.push_back(describe_run(run, scrub_state_name(run.state), info.size_bytes));
  }
  json["history"] = std::move(history);
  return json;
}

}  // namespace bb::raid
