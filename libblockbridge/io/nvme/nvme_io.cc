// SPDX-License-Identifier: Apache-2.0
// The requests of an NvmeDevice: from submission over paths that come and go to their one end.
#include <algorithm>

#include "base/log.h"
#include "base/mutant.h"
#include "base/units.h"
#include "io/nvme/nvme_device.h"
#include "io/nvme/retry_rule.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kRetriesMax = 8;

uint64_t later(uint64_t from_ns, uint64_t by_ns) {
  return from_ns > UINT64_MAX - by_ns ? UINT64_MAX : from_ns + by_ns;
}

// A command that names no blocks overlaps nothing.
bool ranged(IoOp op) { return op != IoOp::kFlush; }

}  // namespace

void NvmeDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  if (request.op == IoOp::kDiscard && !info_.discard) {
    return refuse(request, Code::k_not_supported, "the target cannot discard");
  }
  bool ready = usable();
  if (!ready && patience_ns() == 0) {
    return refuse(request, Code::k_unavailable, why_unusable());
  }
  bool barred = ranged(request.op) && !unsettled_.empty() &&
                unsettled_.overlaps(request.offset_bytes, request.length_bytes);
  if (barred && !BB_MUTANT(kForgetUnsettled)) {
    return barred_.push(request, context_.loop.now_ns() + options_.io_timeout_ns);
  }
  if (ready && parked_.empty() && waiting_.empty() && !free_.empty()) return start(request);
  parked_.push(request, context_.loop.now_ns() + (ready ? options_.io_timeout_ns : patience_ns()));
}

void NvmeDevice::start(IoRequest& request) {
  NvmeRequest& slot = requests_[free_.back()];
  free_.pop_back();
  uint64_t now_ns = context_.loop.now_ns();
  slot.begin(request, now_ns, options_.io_timeout_ns);
  slot.incarnation = incarnation();
  if (!issue(slot, now_ns)) {
    slot.state = NvmeRequest::State::kWaiting;
    waiting_.push_back(slot.index);
  }
}

// Gives the next command to a path; false when none has room.
bool NvmeDevice::issue(NvmeRequest& request, uint64_t now_ns) {
  // What a flush was to make durable may be gone with the target's memory.
  if (request.request->op == IoOp::kFlush && request.incarnation != incarnation()) {
    fail(request, Code::k_unavailable, "every path was lost meanwhile");
    return true;
  }
  auto path = chooser_.choose(loads_);
  if (!path) return false;
  request.state = NvmeRequest::State::kIssued;
  request.build(shape_);
  paths_[*path]->issue(request, now_ns);
  return true;
}

// Once more, by whichever path; those that wait already come first.
void NvmeDevice::move(NvmeRequest& request) {
  if (!usable() && patience_ns() == 0) {
    return fail(request, Code::k_unavailable, why_unusable());
  }
  request.state = NvmeRequest::State::kWaiting;
  waiting_.push_back(request.index);
  resume();
}

void NvmeDevice::resume() {
  while (usable() && !waiting_.empty()) {
    NvmeRequest& request = requests_[waiting_.front()];
    waiting_.erase(waiting_.begin());
    if (issue(request, context_.loop.now_ns())) continue;
    waiting_.insert(waiting_.begin(), request.index);
    return;
  }
  while (usable() && waiting_.empty() && !parked_.empty() && !free_.empty()) {
    start(*parked_.pop());
  }
}

// It stays in flight, as far as its user can see, until nothing of it can happen any more.
void NvmeDevice::hold(NvmeRequest& request) {
  const NvmePath& path = *paths_[request.path];
  request.fence = {.path = request.path,
                   .association = path.number(),
                   .at_ns = later(path.cut_ns(), path.fence_after_ns())};
  request.state = NvmeRequest::State::kHeld;
  ++held_;
  if (!usable() && patience_ns() == 0) {
    fail(request, Code::k_unavailable, why_unusable());
  }
}

void NvmeDevice::settle(const NvmePath& path) {
  uint64_t below = path.settled_below();
  if (below == 0) return;
  for (NvmeRequest& request : requests_) {
    if (request.state != NvmeRequest::State::kHeld) continue;
    if (request.fence.path != path.index() || request.fence.association >= below) continue;
    --held_;
    move(request);
  }
  if (unsettled_.settle(path.index(), below)) release_barred();
}

void NvmeDevice::release_barred() {
  RequestList again;
  std::swap(again, barred_);
  while (IoRequest* request = again.pop()) {
    gate_.leave();  // do_submit enters anew
    do_submit(*request);
  }
}

void NvmeDevice::on_done(NvmeRequest& request, Status lost) {
  NvmePath& path = *paths_[request.path];
  path.ended(request, lost.ok());
  if (lost.ok() && proving_ > 0) proof_.set();
  Outcome outcome{.lost = !lost.ok(),
                  .sent = request.sent,
                  .digest_error = request.digest_error,
                  .status = request.cqe.status};
  switch (judge(outcome, request.changes())) {
    case Verdict::kDone:
      request.moved_bytes += request.step_bytes;
      if (request.moved_bytes >= request.request->length_bytes) return finish(request, Status());
      return move(request);
    case Verdict::kAgain:
      ++stats_.digest_errors;
      if (request.retries++ < kRetriesMax) {
        ++stats_.retries;
        return move(request);
      }
      return fail(request, Code::k_io_error,
                  fmt::format("data damaged on the way {} times", request.retries));
    case Verdict::kElsewhere:
      return outcome.lost ? go_elsewhere(request, lost) : path_refused(request);
    case Verdict::kHold:
      // By one path, to a target that promises nothing, there is nothing to wait for.
      if (single() && !path.fences_reconnect()) {
        return fail(request, Code::k_unavailable, lost.text());
      }
      return hold(request);
    case Verdict::kFail:
      return fail_answered(request);
  }
}

void NvmeDevice::go_elsewhere(NvmeRequest& request, const Status& lost) {
  bool late = context_.loop.now_ns() >= request.deadline_ns;
  if (single() || late) return fail(request, Code::k_unavailable, lost.text());
  ++stats_.moves;
  move(request);
}

// The path itself said that it cannot: what it says of its ANA state counts at once.
void NvmeDevice::path_refused(NvmeRequest& request) {
  NvmePath& path = *paths_[request.path];
  NvmeStatus status = plain_status(request.cqe.status);
  if (status == NvmeStatus::kAnaInaccessible) path.set_ana(AnaState::kInaccessible);
  if (status == NvmeStatus::kAnaPersistentLoss) path.set_ana(AnaState::kPersistentLoss);
  if (status == NvmeStatus::kAnaTransition) path.set_ana(AnaState::kChange);
  path.look_again();
  bool late = context_.loop.now_ns() >= request.deadline_ns;
  if (late || request.retries++ >= kRetriesMax) return fail_answered(request);
  ++stats_.moves;
  if (stats_.last_error.ok() || !usable()) {
    stats_.last_error =
        error(Code::k_unavailable, "{}: {}", path.address(), nvme_status_text(request.cqe.status));
  }
  request.state = NvmeRequest::State::kWaiting;
  waiting_.push_back(request.index);
  note_usable();
}

void NvmeDevice::fail_answered(NvmeRequest& request) {
  NvmeStatus status = request.cqe.status;
  bool aborted = request.aborting && plain_status(status) == NvmeStatus::kAbortRequested;
  if (!aborted) return fail(request, code_of(status), nvme_status_text(status));
  fail(request, Code::k_timed_out,
       fmt::format("no answer within {} ms -> aborted", options_.io_timeout_ns / kNsPerMs));
}

void NvmeDevice::fail(NvmeRequest& request, Code code, std::string_view why) {
  if (request.state == NvmeRequest::State::kHeld) {
    --held_;
    uint64_t at = request.request->offset_bytes + request.moved_bytes;
    unsettled_.add(at, request.step_bytes, request.fence);
  }
  finish(request, describe(*request.request, code, why));
}

void NvmeDevice::finish(NvmeRequest& request, Status status) {
  IoRequest& of = *request.request;
  request.request = nullptr;
  request.state = NvmeRequest::State::kFree;
  free_.push_back(request.index);
  count(of, status);
  resume();
  of.done(&of, std::move(status));
  gate_.leave();
}

void NvmeDevice::refuse(IoRequest& request, Code code, std::string_view why) {
  Status status = describe(request, code, why);
  count(request, status);
  request.done(&request, std::move(status));
  gate_.leave();
}

void NvmeDevice::count(const IoRequest& request, const Status& status) {
  bool reads = request.op == IoOp::kRead;
  ++(reads ? stats_.reads : request.op == IoOp::kWrite ? stats_.writes : stats_.others);
  if (!status.ok()) ++stats_.failures;
}

Status NvmeDevice::describe(const IoRequest& request, Code code, std::string_view why) const {
  return error(code, "{}: {} of {} bytes at {}: {}", info_.uri, io_op_name(request.op),
               request.length_bytes, request.offset_bytes, why);
}

// No path is usable, and nobody is to wait for one. What is issued comes back by itself.
void NvmeDevice::fail_waiting() {
  std::string why = why_unusable();
  waiting_.clear();
  for (NvmeRequest& request : requests_) {
    bool waits =
        request.state == NvmeRequest::State::kWaiting || request.state == NvmeRequest::State::kHeld;
    if (waits) fail(request, Code::k_unavailable, why);
  }
  while (IoRequest* request = parked_.pop()) refuse(*request, Code::k_unavailable, why);
  while (IoRequest* request = barred_.pop()) refuse(*request, Code::k_unavailable, why);
}

// Some path is to come back within `patience_ns`: so long what waits may wait.
void NvmeDevice::limit_waiting(uint64_t patience_ns) {
  uint64_t until_ns = context_.loop.now_ns() + patience_ns;
  parked_.set_deadlines(until_ns);
  for (NvmeRequest& request : requests_) {
    bool waits =
        request.state == NvmeRequest::State::kWaiting || request.state == NvmeRequest::State::kHeld;
    if (waits) request.deadline_ns = std::min(request.deadline_ns, until_ns);
  }
}

// Coarse on purpose: one timer for all requests, not one each.
void NvmeDevice::on_tick() {
  uint64_t now_ns = context_.loop.now_ns();
  if (unsettled_.expire(now_ns)) release_barred();
  for (NvmeRequest& request : requests_) check_deadline(request, now_ns);
  for (RequestList* list : {&parked_, &barred_}) {
    while (IoRequest* request = list->pop_due(now_ns)) {
      refuse(*request, Code::k_unavailable,
             list == &barred_ ? "an earlier write to this range may yet happen by a lost path"
             : usable()       ? "all paths are busy"
                              : why_unusable());
    }
  }
  if (stopping_) return;
  uint64_t shortest_ns = options_.io_timeout_ns;
  if (options_.wait_ns > 0) shortest_ns = std::min(shortest_ns, options_.wait_ns);
  uint64_t pause_ns = std::clamp(shortest_ns / 8, 5 * kNsPerMs, kNsPerSecond);
  context_.loop.arm(tick_, now_ns + pause_ns);
}

void NvmeDevice::check_deadline(NvmeRequest& request, uint64_t now_ns) {
  bool late = now_ns >= request.deadline_ns;
  switch (request.state) {
    case NvmeRequest::State::kFree:
      return;
    case NvmeRequest::State::kIssued:
      if (!late) return;
      request.aborting = true;
      return paths_[request.path]->abort(request);
    case NvmeRequest::State::kHeld:
      if (request.fence.at_ns <= now_ns) {
        --held_;
        return move(request);
      }
      if (late) {
        fail(request, Code::k_timed_out, "it was sent by a path that was lost, and may yet happen");
      }
      return;
    case NvmeRequest::State::kWaiting:
      if (!late) return;
      std::erase(waiting_, request.index);
      fail(request, usable() ? Code::k_timed_out : Code::k_unavailable,
           usable() ? "all paths are busy" : why_unusable());
      return;
  }
}

}  // namespace bb::io::nvme
