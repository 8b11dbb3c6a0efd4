// SPDX-License-Identifier: Apache-2.0
#include "backplane/managed_array.h"
#include "base/log.h"
#include "base/units.h"

namespace bb::backplane {

Status ManagedArray::start_scrub() {
  if (array_ == nullptr) {
    return error(Code::k_unavailable, "array \"{}\" is not online: {}", entry_.record.name,
                 trouble_);
  }
  if (scrub_.state == "running") {
    return error(Code::k_bad_state, "array \"{}\" is being scrubbed: {} so far", entry_.record.name,
                 format_size_bytes(scrub_.done_bytes));
  }
  scrub_ = {.state = "running", .begun_wall_ns = services_.context.loop.wall_ns()};
  tasks_.spawn(run_scrub());
  return {};
}

io::Task<void> ManagedArray::run_scrub() {
  Result<raid::ScrubReport> report = co_await array_->scrub(
      {.progress_bytes = &scrub_.done_bytes, .cancelled = &scrub_cancelled_});
  scrub_.ended_wall_ns = services_.context.loop.wall_ns();
  scrub_.state = report.ok() ? "done" : "failed";
  if (report.ok()) {
    scrub_.report = std::move(report).value();
  } else {
    scrub_.detail = report.status().text();
  }
  log_info("array \"{}\": scrub {}: {} blocks repaired, {} could not be {}", entry_.record.name,
           scrub_.state, scrub_.report.repaired_blocks, scrub_.report.unrepaired_blocks,
           scrub_.detail);
}

Json ManagedArray::describe_scrub() const {
  uint64_t total = array_ == nullptr ? 0 : array_->info().size_bytes;
  const raid::ScrubReport& report = scrub_.report;
  std::string text = scrub_.state;
  if (scrub_.state == "running" && total > 0) {
    text = fmt::format("{}% of {}", scrub_.done_bytes * 100 / total, format_size_bytes(total));
  } else if (scrub_.state == "done") {
    text = fmt::format("{} blocks repaired, {} could not be", report.repaired_blocks,
                       report.unrepaired_blocks);
  }
  Json findings = Json::array();
  for (const raid::ScrubFinding& finding : report.findings)
    findings.push_back({{"offset_bytes", finding.offset_bytes}, {"repaired", finding.repaired}});
  return {{"state", scrub_.state},
          {"text", std::move(text)},
          {"detail", scrub_.detail},
          {"done_bytes", scrub_.done_bytes},
          {"total_bytes", total},
          {"begun_wall_ns", scrub_.begun_wall_ns},
          {"ended_wall_ns", scrub_.ended_wall_ns},
          {"skipped_bytes", report.skipped_bytes},
          {"repaired_blocks", report.repaired_blocks},
          {"unrepaired_blocks", report.unrepaired_blocks},
          {"findings", std::move(findings)}};
}

}  // namespace bb::backplane
