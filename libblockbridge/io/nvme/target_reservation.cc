// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_reservation.h"

#include <algorithm>

#include "base/check.h"
#include "base/mutant.h"
#include "io/nvme/target_core.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

ReservationOutcome refused(NvmeStatus status) {
  ReservationOutcome outcome;
  outcome.status = final_status(status);
  return outcome;
}

template <typename Decoded, typename... More>
ReservationOutcome carry_out(const ReservationState& state, const Uuid& host,
                             const std::optional<Decoded>& command, More... more) {
  return command ? reserve(state, host, *command, more...) : refused(NvmeStatus::kInvalidField);
}

// Set Features, Reservation Persistence (NVMe base 2.0, 5.27.1.26): PTPL in bit 0.
ReservationOutcome set_persistence(const ReservationState& state, const Sqe& sqe,
                                   bool may_persist) {
  bool wanted = (sqe.cdw11 & 1) != 0;
  if (wanted && !may_persist) return refused(NvmeStatus::kInvalidField);
  ReservationOutcome outcome;
  outcome.next = state;
  outcome.next.persistent = wanted;
  return outcome;
}

ReservationOutcome clear_all(const ReservationState& state) {
  ReservationOutcome outcome;
  outcome.next = state;
  if (state.registrants.empty()) return outcome;
  for (const Registrant& one : state.registrants) {
    outcome.notices.push_back({one.host, NotificationType::kReservationPreempted});
  }
  outcome.next.registrants.clear();
  outcome.next.type = ReservationType::kNone;
  outcome.next.holder = {};
  ++outcome.next.generation;
  return outcome;
}

}  // namespace

NamespaceReservation::NamespaceReservation(TargetCore& core, Namespace& name_space,
                                           bool may_persist, ReservationState state)
    : core_(core), namespace_(name_space), may_persist_(may_persist) {
  if (state.persistent) state_ = std::move(state);
}

void NamespaceReservation::submit(TargetQueue& queue, uint16_t slot) {
  commands_.push_back({.queue = &queue, .slot = slot, .cleared = nullptr});
  run();
}

void NamespaceReservation::clear(std::function<void(bool durable)> done) {
  commands_.push_back({.cleared = std::move(done)});
  run();
}

void NamespaceReservation::forget(TargetQueue& queue) {
  for (Command& command : commands_) {
    if (command.queue == &queue) command.queue = nullptr;
  }
  // The first may be half done; the others have not begun.
  auto first = commands_.begin() + (step_ == Step::kIdle || commands_.empty() ? 0 : 1);
  auto gone = [](const Command& one) { return one.queue == nullptr && !one.cleared; };
  commands_.erase(std::remove_if(first, commands_.end(), gone), commands_.end());
}

// A loop, not a recursion: most commands end at once, and any number may wait.
void NamespaceReservation::run() {
  if (running_) return;
  running_ = true;
  while (step_ == Step::kIdle && !commands_.empty()) decide();
  running_ = false;
}

void NamespaceReservation::decide() {
  const Command& command = commands_.front();
  outcome_ = command.cleared ? clear_all(state_) : decide_command();
  if (outcome_.status != NvmeStatus::kSuccess) return finish(outcome_.status);
  if (!command.cleared) {
    const HostIdentity& host = command.queue->controller()->host();
    outcome_.next.set_owner(host.host_id, host_tag(host.host_nqn));
  }
  bool lasts = state_.persistent || outcome_.next.persistent;
  if (!lasts || outcome_.next == state_) return enforce();
  step_ = Step::kSaving;
  core_.save_reservation(namespace_, outcome_.next);  // answered by on_saved, perhaps at once
  if (BB_MUTANT(kReserveUnsaved)) enforce();
}

ReservationOutcome NamespaceReservation::decide_command() const {
  TargetQueue& queue = *commands_.front().queue;
  const Sqe& sqe = queue.sqe(commands_.front().slot);
  ConstBytes data = queue.received(commands_.front().slot);
  const Uuid& host = queue.controller()->host().host_id;
  if (queue.queue_id() == 0) {
    return set_persistence(state_, sqe, may_persist_);
  }
  if (sqe.opcode == static_cast<uint8_t>(IoOpcode::kReservationRegister)) {
    return carry_out(state_, host, decode_register(sqe, data), may_persist_);
  }
  if (sqe.opcode == static_cast<uint8_t>(IoOpcode::kReservationAcquire)) {
    return carry_out(state_, host, decode_acquire(sqe, data));
  }
  return carry_out(state_, host, decode_release(sqe, data));
}

void NamespaceReservation::on_saved(bool durable) {
  if (BB_MUTANT(kReserveUnsaved)) return;
  BB_CHECK(step_ == Step::kSaving, "a reservation was saved that nobody changed");
  step_ = Step::kIdle;
  if (durable) {
    enforce();
  } else {
    finish(NvmeStatus::kInternalError);
  }
  run();
}

void NamespaceReservation::enforce() {
  step_ = Step::kIdle;
  state_ = std::move(outcome_.next);
  for (const ReservationNotice& notice : outcome_.notices) {
    bool masked = (notification_mask & (1u << static_cast<uint32_t>(notice.type))) != 0;
    if (!masked) notify(notice);
  }
  refuse_conflicting();
  if (!outcome_.abort) return finish(NvmeStatus::kSuccess);
  abort(outcome_.preempted);
  if (!aborting() || BB_MUTANT(kPreemptNoWait)) return finish(NvmeStatus::kSuccess);
  step_ = Step::kAborting;
  core_.await_aborted(namespace_);
}

void NamespaceReservation::on_aborted_back() {
  if (step_ != Step::kAborting || aborting()) return;
  step_ = Step::kIdle;
  finish(NvmeStatus::kSuccess);
  run();
}

void NamespaceReservation::finish(NvmeStatus status) {
  Command command = std::move(commands_.front());
  commands_.pop_front();
  if (command.cleared) command.cleared(status == NvmeStatus::kSuccess);
  if (command.queue != nullptr) command.queue->reservation_done(command.slot, status);
}

// Log Page Count counts what was not kept, too, and skips 0 (NVMe base 2.0, 5.16.1.23).
void ReservationLog::add(uint32_t nsid, NotificationType type) {
  if (++count_ == 0) ++count_;
  if (entries_.size() >= kPagesMax) return;
  entries_.push_back({.count = count_, .nsid = nsid, .type = type});
}

LogData ReservationLog::take() {
  if (entries_.empty()) return encode_reservation_log({});
  Entry oldest = entries_.front();
  entries_.pop_front();
  return encode_reservation_log({.count = oldest.count,
                                 .type = oldest.type,
                                 .more = static_cast<uint8_t>(entries_.size()),
                                 .nsid = oldest.nsid});
}

std::optional<AccessKind> access_of(IoOpcode opcode) {
  switch (opcode) {
    case IoOpcode::kRead:
    case IoOpcode::kCompare:
    case IoOpcode::kVerify:
      return AccessKind::kRead;
    case IoOpcode::kFlush:
    case IoOpcode::kWrite:
    case IoOpcode::kWriteZeroes:
    case IoOpcode::kDatasetManagement:
    case IoOpcode::kCopy:  // it reads as well, which whoever may write may
      return AccessKind::kWrite;
    case IoOpcode::kReservationRegister:
    case IoOpcode::kReservationReport:
    case IoOpcode::kReservationAcquire:
    case IoOpcode::kReservationRelease:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace bb::io::nvme
