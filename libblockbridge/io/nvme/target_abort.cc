// SPDX-License-Identifier: Apache-2.0
// Commands found by their identifiers, and ended before the device has done anything for them.
#include <algorithm>

#include "base/mutant.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

bool TargetQueue::id_in_flight(uint16_t command_id) const {
  if (ids_[command_id & 0xff] == 0) return false;
  return std::any_of(slots_.begin(), slots_.end(), [&](const TargetSlot& slot) {
    return slot.id_noted && slot.sqe.command_id == command_id;
  });
}

// False: a command with this identifier is in flight (NVMe base 2.0, 3.3.3.1, Command ID Conflict).
bool TargetQueue::note_id(TargetSlot& slot) {
  slot.id_noted = false;
  if (id_in_flight(slot.sqe.command_id)) return false;
  slot.id_noted = true;
  ++ids_[slot.sqe.command_id & 0xff];
  return true;
}

// NVMe base 2.0, 5.1: Abort. False: there is no such command, or it is too late.
bool TargetQueue::abort(uint16_t command_id) {
  if (closing_ || ids_[command_id & 0xff] == 0) return false;
  for (size_t index = 0; index < slots_.size(); ++index) {
    const TargetSlot& slot = slots_[index];
    if (!slot.id_noted || slot.sqe.command_id != command_id) continue;
    bool aborted = cancel(static_cast<uint16_t>(index), NvmeStatus::kAbortRequested);
    if (aborted) host_.wake();
    return aborted;
  }
  return false;
}

// Ends a command with `status`, at once or when its data, which are on their way, have come. False:
// it is with the device, or has been answered.
bool TargetQueue::cancel(uint16_t index, NvmeStatus status) {
  TargetSlot& slot = slots_[index];
  bool whole_pair = slot.partner != kNoSlot && slots_[slot.partner].state != State::kReceiving &&
                    slots_[slot.partner].state != State::kWaiting;
  switch (slot.state) {
    case State::kReceiving:
      if (slot.status == NvmeStatus::kSuccess) slot.status = status;
      return true;
    case State::kWaiting:
      waiting_.remove(index);
      break;
    case State::kPaired:
    case State::kLocked:
    case State::kReady:
    case State::kDevice:
      if (slot.half != Half::kNone && whole_pair) return cancel_pair(index, status);
      if (slot.state == State::kDevice) return BB_MUTANT(kAbortLate);
      if (slot.state == State::kLocked) slot.name_space->writes.cancel(slot.lock);
      if (slot.state == State::kReady) io_ready_.remove(index);
      if (slot.lock.held) slot.name_space->writes.release(slot.lock);
      break;
    case State::kEvent:
      std::erase(events_, index);
      break;
    case State::kFree:
    case State::kReserving:
    case State::kRunning:
    case State::kConnecting:
    case State::kAuthenticating:
    case State::kAnswering:
    case State::kLeaving:
      return false;
  }
  answer(index, status);
  serve_waiting(0);
  return true;
}

}  // namespace bb::io::nvme
