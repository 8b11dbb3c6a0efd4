// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <ctime>

#include "backplane/managed_array.h"
#include "base/log.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kScrubRetryNs = 10 * kNsPerSecond;

uint32_t minute_of_day(uint64_t wall_ns) {
  auto seconds = static_cast<time_t>(wall_ns / kNsPerSecond);
  tm local{};
  localtime_r(&seconds, &local);
  return static_cast<uint32_t>(local.tm_hour * 60 + local.tm_min);
}

// What resync is still to compare a scrub would leave out.
bool is_copying(const raid::ArrayInfo& info) {
  return info.unequal_regions > 0 ||
         std::ranges::any_of(info.members, [](const raid::ArrayMemberInfo& member) {
           return member.state == raid::MemberState::kRecovering;
         });
}

}  // namespace

Status ManagedArray::start_scrub(raid::ScrubOptions options) {
  if (array_ == nullptr) {
    return error(Code::k_unavailable, "array \"{}\" is not online: {}", entry_.record.name,
                 trouble_);
  }
  if (stopping_.is_set())
    return error(Code::k_bad_state, "array \"{}\" is being stopped", entry_.record.name);
  if (scrubbing_) {
    raid::ScrubInfo info = array_->scrub_info();
    return error(Code::k_bad_state, "array \"{}\" is being scrubbed: {} so far", entry_.record.name,
                 format_size_bytes(info.log.open ? info.log.open->position_bytes : 0));
  }
  scrubbing_ = true;
  tasks_.spawn(run_scrub(options));
  return {};
}

io::Task<Status> ManagedArray::stop_scrub(raid::ScrubStop how) {
  if (array_ == nullptr) {
    co_return error(Code::k_unavailable, "array \"{}\" is not online: {}", entry_.record.name,
                    trouble_);
  }
  co_return co_await array_->stop_scrub(how);
}

io::Task<void> ManagedArray::run_scrub(raid::ScrubOptions options) {
  co_await array_->load_scrub_log();
  if (stopping_.is_set()) {  // nobody would stop it any more
    scrubbing_ = false;
    co_return;
  }
  Result<raid::ScrubRun> ended = co_await array_->scrub_all(options);
  scrubbing_ = false;
  scrub_next_ns_ = services_.context.loop.now_ns() + kScrubRetryNs;
  if (ended.ok()) {
    const raid::ScrubReport& report = ended->report;
    log_info("array \"{}\": scrub done: {} blocks repaired, {} could not be", entry_.record.name,
             report.repaired_blocks, report.unrepaired_blocks);
  } else {
    log_info("array \"{}\": scrub: {}", entry_.record.name, ended.status().to_string());
  }
}

// What was interrupted goes on, and what is due begins.
io::Task<void> ManagedArray::tend_scrub() {
  co_await array_->load_scrub_log();
  raid::ScrubInfo info = array_->scrub_info();
  const std::optional<raid::ScrubRun>& open = info.log.open;
  uint64_t now_wall_ns = services_.context.loop.wall_ns();
  ScrubMoment moment{
      .now_wall_ns = now_wall_ns,
      .minute_of_day = minute_of_day(now_wall_ns),
      .latest_end_wall_ns = info.log.history.empty() ? 0 : info.log.history[0].ended_wall_ns,
      .running = scrubbing_,
      .interrupted = open && open->state == raid::ScrubState::kRunning,
      .paused = open && open->state == raid::ScrubState::kPaused,
      .scheduled = open && open->scheduled};
  ScrubStep step = next_scrub_step(services_.scrub, moment);
  bool begins = step == ScrubStep::kStart || step == ScrubStep::kResume;
  if (step == ScrubStep::kStart && is_copying(array_->describe())) co_return;
  if (begins && services_.context.loop.now_ns() < scrub_next_ns_) co_return;
  if (begins) log_info("array \"{}\": scrub begins or goes on by itself", entry_.record.name);
  if (step == ScrubStep::kStart) (void)start_scrub({.scheduled = true});
  if (step == ScrubStep::kResume) (void)start_scrub({.resume = true, .scheduled = open->scheduled});
  if (step == ScrubStep::kSuspend) (void)co_await stop_scrub(raid::ScrubStop::kSuspend);
}

}  // namespace bb::backplane
