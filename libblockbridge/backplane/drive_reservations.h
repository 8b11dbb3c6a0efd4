// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/device.h"
#include "io/nvme/reservation_record.h"
#include "io/nvme/reservation_store.h"

namespace bb::backplane {

// Where on a drive the two copies are: in the first MiB, behind the label's.
inline constexpr uint64_t kReservationOffsetsBytes[2] = {131072, 196608};

// The reservation of a drive's namespace, kept on the drive itself: it goes where the drive goes.
// Both copies are written at every change, one after the other with a flush between, so that one is
// always whole and no bad sector brings an older one back.
class DriveReservations final : public io::nvme::ReservationStore {
 public:
  DriveReservations(io::Device& device, const Uuid& drive);  // the whole drive, borrowed

  io::Task<Result<io::nvme::ReservationState>> load() override;
  io::Task<Status> save(io::nvme::ReservationState state) override;

 private:
  io::Task<Status> write(io::nvme::ReservationState state);

  io::Device& device_;
  io::nvme::ReservationRecord record_;  // as the drive has it
  uint64_t attempted_ = 0;              // the highest sequence that a copy may hold
  int next_ = 0;                        // the copy that does not count: written first
};

}  // namespace bb::backplane
