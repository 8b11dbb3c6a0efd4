// SPDX-License-Identifier: Apache-2.0
// A queue and the reservation of its namespace: what it may do, and commands that change it.
#include <algorithm>
#include <cstring>

#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

constexpr size_t kReserveDataMaxBytes = 4096;  // hosts may send more than the fields

bool sets_persistence(const Sqe& sqe) {
  return sqe.opcode == static_cast<uint8_t>(AdminOpcode::kSetFeatures) &&
         (sqe.cdw10 & 0xff) == static_cast<uint8_t>(FeatureId::kReservationPersistence);
}

}  // namespace

NvmeStatus TargetQueue::permitted(const TargetSlot& slot) const {
  const NamespaceReservation& reservation = *slot.name_space->reservation;
  if (slot.aborted) [[unlikely]] {
    return final_status(NvmeStatus::kAbortedByPreempt);
  }
  if (!reservation.held()) [[likely]] {
    return NvmeStatus::kSuccess;
  }
  std::optional<AccessKind> kind = access_of(static_cast<IoOpcode>(slot.sqe.opcode));
  if (!kind) return NvmeStatus::kSuccess;  // these say themselves who may
  return check_access(reservation.state(), controller_->host().host_id, *kind);
}

NvmeStatus TargetQueue::plan_reservation(TargetSlot& slot) {
  slot.work = Work::kReserve;
  uint32_t length = slot.sqe.sgl.length_bytes;
  auto opcode = static_cast<IoOpcode>(slot.sqe.opcode);
  if (opcode == IoOpcode::kReservationReport) {
    if (decode_report(slot.sqe).length_bytes != length) {
      return final_status(NvmeStatus::kSglDataLengthInvalid);
    }
    return plan_data(slot, true, length);
  }
  bool release = opcode == IoOpcode::kReservationRelease;
  if (length < (release ? kReleaseDataBytes : kRegisterDataBytes) ||
      length > kReserveDataMaxBytes) {
    return final_status(NvmeStatus::kSglDataLengthInvalid);
  }
  return plan_data(slot, false, length);
}

// True when it was one of them.
bool TargetQueue::run_reservation(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (slot.work != Work::kReserve) [[likely]] {
    return false;
  }
  if (slot.sqe.opcode == static_cast<uint8_t>(IoOpcode::kReservationReport)) {
    report_reservation(index);
  } else {
    slot.state = State::kReserving;
    slot.name_space->reservation->submit(*this, index);
  }
  return true;
}

// Hosts of fabrics have long identifiers (NVMe base 2.0, 7.4): the short structure has no room for
// them.
void TargetQueue::report_reservation(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (!decode_report(slot.sqe).extended) {
    return answer(index, final_status(NvmeStatus::kHostIdInconsistent));
  }
  LogData report = encode_report(slot.name_space->reservation->state(), true);
  size_t have = std::min<size_t>(report.size(), slot.length_bytes);
  std::memcpy(slot.data, report.data(), have);
  std::memset(slot.data + have, 0, slot.length_bytes - have);
  answer(index, NvmeStatus::kSuccess);
}

// Set Features, Reservation Persistence: changes what is durable, so it waits its turn like the
// commands of reservations. Of all namespaces at once only where there is but one.
bool TargetQueue::run_persistence(uint16_t index) {
  TargetSlot& slot = slots_[index];
  if (!sets_persistence(slot.sqe) || controller_->discovery()) return false;
  Subsystem& subsystem = *controller_->subsystem();
  std::vector<uint32_t> all = subsystem.nsids();
  bool only = slot.sqe.nsid == kNsidAll && all.size() == 1;
  slot.name_space = subsystem.find(only ? all[0] : slot.sqe.nsid);
  if ((slot.sqe.cdw10 >> 31) != 0) {
    answer(index, final_status(NvmeStatus::kFeatureNotSaveable));
  } else if (slot.name_space == nullptr) {
    answer(index, final_status(NvmeStatus::kInvalidNamespace));
  } else {
    slot.state = State::kReserving;
    slot.name_space->reservation->submit(*this, index);
  }
  return true;
}

// Nothing of this queue is answered any more.
void TargetQueue::forget_reservations() {
  for (TargetSlot& slot : slots_) {
    if (slot.state == State::kReserving) slot.name_space->reservation->forget(*this);
  }
}

void TargetQueue::reservation_done(uint16_t index, NvmeStatus status) {
  answer(index, status);
  host_.wake();
}

void TargetQueue::recheck() {
  bool any = false;
  for (size_t left = io_ready_.size(); left > 0; --left) {
    uint16_t index = io_ready_.pop();
    NvmeStatus status = permitted(slots_[index]);
    if (status == NvmeStatus::kSuccess) {
      io_ready_.push(index);
    } else {
      end_io(index, status);
      any = true;
    }
  }
  if (any) host_.wake();
}

// What is with the device cannot be called back: it is waited for (NVMe base 2.0, 8.19.7).
void TargetQueue::abort_commands(const Namespace& of) {
  for (TargetSlot& slot : slots_) {
    bool begun = slot.state == State::kReceiving || slot.state == State::kWaiting ||
                 slot.state == State::kPaired || slot.state == State::kLocked ||
                 slot.state == State::kReady || slot.state == State::kDevice;
    if (begun && slot.name_space.get() == &of) slot.aborted = true;
  }
  if (!closing_) recheck();
  aborting_ = aborting_ || io_in_flight_ > 0;
}

bool TargetQueue::aborting(const Namespace* of) const {
  if (!aborting_) return false;
  return std::ranges::any_of(slots_, [of](const TargetSlot& slot) {
    bool ended = slot.state == State::kDevice && slot.aborted;
    return ended && (of == nullptr || slot.name_space.get() == of);
  });
}

void TargetQueue::aborted_back() {
  aborting_ = aborting(nullptr);
  core_.aborted_io_back();
}

}  // namespace bb::io::nvme
