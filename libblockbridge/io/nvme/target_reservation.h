// SPDX-License-Identifier: Apache-2.0
// pure: the reservation of one namespace as its target carries it out
#pragma once

#include <deque>
#include <functional>
#include <optional>

#include "io/nvme/log_page.h"
#include "io/nvme/reservation_codec.h"

namespace bb::io::nvme {

struct Namespace;
class TargetCore;
class TargetQueue;

// Commands that change the reservation run one after the other: decided on values, saved if it is
// to last, in force, answered. What a command decides is in force only once it is durable, so that
// a crash never takes back what anybody has seen; a preempt-and-abort is answered only once nothing
// of the hosts it preempted is with the device.
class NamespaceReservation {
 public:
  // `state` is what was saved; what does not persist has ended with the target before.
  NamespaceReservation(TargetCore& core, Namespace& name_space, bool may_persist,
                       ReservationState state);

  // One predictable branch for every I/O while nobody holds a reservation.
  bool held() const { return state_.type != ReservationType::kNone; }
  const ReservationState& state() const { return state_; }
  bool may_persist() const { return may_persist_; }

  // A command of `queue` that changes the reservation, its data received: answered by
  // queue.reservation_done.
  void submit(TargetQueue& queue, uint16_t slot);
  void forget(TargetQueue& queue);  // it closes: nothing of it is answered any more
  // Ends every registration, for somebody whose word counts more than any host's; `done` is told
  // whether it is durable.
  void clear(std::function<void(bool durable)> done);
  void on_saved(bool durable);
  void on_aborted_back();  // a command that was aborted is no longer with the device
  bool saving() const { return step_ == Step::kSaving; }
  bool waits_for_aborted() const { return step_ == Step::kAborting; }

  // Feature 82h: which notifications are masked.
  uint32_t notification_mask = 0;

 private:
  enum class Step : uint8_t { kIdle, kSaving, kAborting };
  struct Command {
    TargetQueue* queue = nullptr;  // null: nobody waits for the answer any more
    uint16_t slot = 0;
    std::function<void(bool)> cleared;  // instead of a queue: clear()
  };

  void run();
  void decide();
  ReservationOutcome decide_command() const;
  void enforce();
  void finish(NvmeStatus status);
  // Those whom it concerns: in target_reservation_reach.cc.
  void notify(const ReservationNotice& notice) const;
  void refuse_conflicting() const;  // what waits for the device and may not go there any more
  void abort(const std::vector<Uuid>& hosts);
  bool aborting() const;  // is anything aborted still with the device?

  TargetCore& core_;
  Namespace& namespace_;
  bool may_persist_;
  ReservationState state_;
  std::deque<Command> commands_;  // bounded by the queues' depths; the first is being carried out
  ReservationOutcome outcome_;    // of the first
  Step step_ = Step::kIdle;
  bool running_ = false;
};

// What one controller has to tell of reservations: the queue behind log page 80h.
class ReservationLog {
 public:
  static constexpr size_t kPagesMax = 255;  // more are counted, and not kept
  void add(uint32_t nsid, NotificationType type);
  LogData take();  // the oldest page, or an empty one

 private:
  struct Entry {
    uint64_t count = 0;
    uint32_t nsid = 0;
    NotificationType type = NotificationType::kReservationReleased;
  };
  std::deque<Entry> entries_;
  uint64_t count_ = 0;
};

// As whom a command counts in the conflict table; nothing: it is not in it.
std::optional<AccessKind> access_of(IoOpcode opcode);

}  // namespace bb::io::nvme
