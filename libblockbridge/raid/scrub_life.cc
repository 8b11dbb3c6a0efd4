// SPDX-License-Identifier: Apache-2.0
// The scrub of a whole array: it is paused, cancelled and resumed, and what it did is kept on the
// members. They keep it as well as they can: whatever happens to the log is no harm to the array.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {
namespace {

// So often is the place written down: at each hundredth of the array, but no more often than the
// first, and no more seldom than the second.
constexpr uint64_t kLogLeastNs = 10 * kNsPerSecond;
constexpr uint64_t kLogMostNs = 60 * kNsPerSecond;
constexpr uint64_t kSliceBytes = 1 * MiB;

// The array could not go on, and perhaps will: the scrub is interrupted rather than failed.
bool may_go_on(Code code) {
  return code == Code::k_unavailable || code == Code::k_timed_out || code == Code::k_bad_state ||
         code == Code::k_fenced || code == Code::k_cancelled;
}

// To all active members; `log` gets the next generation.
io::Task<void> write_log(ArrayCore* core, ScrubLog log) {
  co_await core->scrub_mutex_.lock();
  log.generation = ++core->scrub_.log.generation;
  io::AlignedBuffer page(kScrubLogBytes);
  encode_scrub_log(log, page.bytes());
  uint64_t at = kScrubLogOffsetBytes + log.generation % kScrubLogCopies * kScrubLogBytes;
  iovec memory = page.as_iovec();
  FanOut fan(*core);
  for (auto& member : core->members_) {
    if (!member->writable() || !core->fenced_.empty()) continue;
    fan.add(*member, {.op = io::IoOp::kWrite,
                      .offset_bytes = at,
                      .length_bytes = kScrubLogBytes,
                      .iov = &memory,
                      .iov_count = 1,
                      .fua = true});
  }
  co_await fan;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (!leg.status.ok())
      log_debug("{}: scrub log: {}", core->name_of(*leg.member), leg.status.text());
  }
  core->scrub_mutex_.unlock();
}

}  // namespace

io::Task<void> ArrayCore::load_scrub_log() {
  Entered entered(commands_);
  if (!entered.inside) co_return;
  co_await scrub_mutex_.lock();
  if (!scrub_.loaded) co_await read_scrub_logs();
  scrub_mutex_.unlock();
}

// Under scrub_mutex_. One that cannot be read, or is not whole, says nothing.
io::Task<void> ArrayCore::read_scrub_logs() {
  ScrubLog newest;
  io::AlignedBuffer page(kScrubLogBytes);
  iovec memory = page.as_iovec();
  for (size_t i = 0; i < members_.size(); ++i) {
    for (uint64_t copy = 0; copy < kScrubLogCopies; ++copy) {
      Member* member = members_[i].get();
      if (!member->readable()) continue;
      FanOut fan(*this);
      fan.add(*member, {.op = io::IoOp::kRead,
                        .offset_bytes = kScrubLogOffsetBytes + copy * kScrubLogBytes,
                        .length_bytes = kScrubLogBytes,
                        .iov = &memory,
                        .iov_count = 1});
      co_await fan;
      if (!fan.leg(0).status.ok()) continue;
      Result<ScrubLog> found = decode_scrub_log(record_.array, created_wall_ns_, page.bytes());
      if (found.ok() && found->generation > newest.generation) newest = std::move(found).value();
    }
  }
  newest.array = record_.array;
  newest.created_wall_ns = created_wall_ns_;
  if (newest.open && newest.open->position_bytes > geometry_.size_bytes()) newest.open.reset();
  scrub_.log = std::move(newest);
  scrub_.loaded = true;
}

io::Task<void> ArrayCore::write_scrub_log() { co_await write_log(this, scrub_.log); }

ScrubInfo ArrayCore::scrub_info() const {
  ScrubInfo info = scrub_;
  info.size_bytes = geometry_.size_bytes();
  if (info.running && info.log.open) info.log.open->position_bytes += scrub_slice_bytes_;
  return info;
}

io::Task<Result<ScrubRun>> ArrayCore::scrub_all(ScrubOptions options) {
  Entered entered(commands_);
  if (!entered.inside) co_return closed_error();
  co_await load_scrub_log();
  if (!scrub_.loaded) co_return closed_error();
  if (scrub_.running) {
    co_return fail(Code::k_bad_state, "array \"{}\" is being scrubbed: {} so far", record_.name,
                   format_size_bytes(scrub_.log.open ? scrub_.log.open->position_bytes : 0));
  }
  uint64_t now = loop_.wall_ns();
  if (scrub_.log.open && !options.resume) scrub_.log.end(ScrubState::kCancelled, now);
  if (!scrub_.log.open) {
    scrub_.log.open = ScrubRun{.scheduled = options.scheduled, .begun_wall_ns = now};
  }
  // What an operator resumes is his from then on.
  scrub_.log.open->scheduled = scrub_.log.open->scheduled && options.scheduled;
  scrub_.log.open->state = ScrubState::kRunning;
  scrub_.running = true;
  scrub_.detail.clear();
  scrub_stopping_ = false;
  scrub_stop_ = ScrubStop::kSuspend;
  co_await write_scrub_log();
  Status status = co_await scrub_slices();
  // Who looks sees the end once it is written.
  ScrubLog next = scrub_.log;
  if (status.ok()) {
    next.end(ScrubState::kDone, loop_.wall_ns());
  } else if (scrub_stopping_) {
    if (scrub_stop_ == ScrubStop::kPause) next.open->state = ScrubState::kPaused;
    if (scrub_stop_ == ScrubStop::kCancel) next.end(ScrubState::kCancelled, loop_.wall_ns());
  } else if (!may_go_on(status.code())) {
    next.end(ScrubState::kFailed, loop_.wall_ns());
  }
  if (!status.ok() && !scrub_stopping_) scrub_.detail = status.text();
  co_await write_log(this, next);
  next.generation = scrub_.log.generation;
  scrub_.log = std::move(next);
  scrub_.running = false;
  scrub_stopping_ = false;
  if (!status.ok()) co_return status;
  co_return scrub_.log.history.front();
}

io::Task<Status> ArrayCore::scrub_slices() {
  uint64_t size = geometry_.size_bytes();
  uint64_t unit = stripes_ ? geometry_.shape.chunk_bytes * geometry_.shape.data_chunks() : 4 * KiB;
  uint64_t slice = div_up(kSliceBytes, unit) * unit;
  uint64_t logged_ns = loop_.now_ns();
  uint64_t logged_bytes = scrub_.log.open->position_bytes;
  while (scrub_.log.open->position_bytes < size) {
    if (draining_) co_return closed_error();
    uint64_t at = scrub_.log.open->position_bytes;
    // Of what is cut short nothing counts: it is compared again.
    scrub_slice_bytes_ = 0;
    Result<ScrubReport> found = co_await scrub({.offset_bytes = at,
                                                .length_bytes = std::min(slice, size - at),
                                                .progress_bytes = &scrub_slice_bytes_,
                                                .cancelled = &scrub_stopping_});
    scrub_slice_bytes_ = 0;
    BB_CO_TRY(found.status());
    scrub_.log.open->report.add(*found);
    scrub_.log.open->position_bytes = at + std::min(slice, size - at);
    uint64_t since_ns = loop_.now_ns() - logged_ns;
    bool hundredth = scrub_.log.open->position_bytes - logged_bytes >= size / 100;
    if (since_ns < (hundredth ? kLogLeastNs : kLogMostNs)) continue;
    co_await write_scrub_log();
    logged_ns = loop_.now_ns();
    logged_bytes = scrub_.log.open->position_bytes;
  }
  co_return Status();
}

io::Task<Status> ArrayCore::stop_scrub(ScrubStop how) {
  Entered entered(commands_);
  if (!entered.inside) co_return closed_error();
  co_await load_scrub_log();
  if (!scrub_.loaded) co_return closed_error();
  if (scrub_.running) {
    scrub_stop_ = how;
    scrub_stopping_ = true;
    co_return Status();
  }
  if (!scrub_.log.open) {
    co_return fail(Code::k_bad_state, "array \"{}\" is not being scrubbed", record_.name);
  }
  if (how == ScrubStop::kSuspend) co_return Status();
  if (how == ScrubStop::kPause) scrub_.log.open->state = ScrubState::kPaused;
  if (how == ScrubStop::kCancel) scrub_.log.end(ScrubState::kCancelled, loop_.wall_ns());
  co_await write_scrub_log();
  co_return Status();
}

// A limit of its own, below that which it shares with resync.
io::Task<void> ArrayCore::keep_to_scrub_rate(uint64_t bytes) {
  uint64_t rate = options_.scrub_bytes_per_second;
  if (rate == 0) co_return;
  uint64_t go_on_ns = scrub_throttle_.take(loop_.now_ns(), bytes, rate);
  while (loop_.now_ns() < go_on_ns && !scrub_stopping_ && !stop_background_) {
    co_await stop_.wait_until(std::min(go_on_ns, loop_.now_ns() + 100 * kNsPerMs));
  }
}

}  // namespace bb::raid
