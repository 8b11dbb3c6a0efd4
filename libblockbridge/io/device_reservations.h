// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/nvme/reservation.h"
#include "io/task.h"

namespace bb::io {

// What a Device is besides, when hosts can reserve it (NVMe base 2.0, 8.19). A command goes out
// once: where its answer was lost it may or may not have taken effect, the error says so, and a
// report tells. FENCED: the device refused, for what others hold or a key that is not ours;
// NOT_SUPPORTED, UNAVAILABLE, TIMED_OUT, BAD_STATE (closed).
class DeviceReservations {
 public:
  virtual Task<Status> reserve(nvme::RegisterCommand command) = 0;
  virtual Task<Status> reserve(nvme::AcquireCommand command) = 0;
  virtual Task<Status> reserve(nvme::ReleaseCommand command) = 0;
  virtual Task<Result<nvme::ReservationReport>> reservation() = 0;

 protected:
  ~DeviceReservations() = default;
};

}  // namespace bb::io
