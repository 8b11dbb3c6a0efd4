// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/context.h"
#include "io/nvme/reservation.h"
#include "io/task.h"

namespace bb::io::nvme {

// Where the reservations of one namespace outlive its target. Used by one loop; one call at a time.
class ReservationStore {
 public:
  virtual ~ReservationStore() = default;

  // The state that was saved last; an empty one when none ever was. CORRUPT, NOT_SUPPORTED,
  // IO_ERROR: nobody knows who holds what, so the namespace must not be served.
  virtual Task<Result<ReservationState>> load() = 0;

  // Durable when it returns ok. After an error either this state or the one before is found, and
  // as far as possible the one before.
  virtual Task<Status> save(ReservationState state) = 0;
};

}  // namespace bb::io::nvme
