// SPDX-License-Identifier: Apache-2.0
// pure: how a reservation is kept through loss of power; docs/formats/reservation.md
#pragma once

#include "base/bytes.h"
#include "base/uuid.h"
#include "io/nvme/reservation.h"

namespace bb::io::nvme {

// A namespace's reservation as it is stored. A namespace whose reservation does not persist has
// such a record too, of an empty state, once it has had another one.
struct ReservationRecord {
  Uuid nspace;            // of which namespace
  uint64_t sequence = 0;  // raised by every write; where there are two, the higher one counts
  ReservationState state;

  bool operator==(const ReservationRecord&) const = default;
};

inline constexpr size_t kReservationRecordBytes = 4096;

// `into` is kReservationRecordBytes long, the state consistent.
void encode_record(const ReservationRecord& record, Bytes into);
// NOT_FOUND: no magic, so none was ever written. NOT_SUPPORTED: a version of the future. CORRUPT:
// magic, but the rest is not whole.
Result<ReservationRecord> decode_record(ConstBytes from);

// Of two places, both written at every change; what they say of `nspace`, and where to write first.
struct RecordChoice {
  ReservationRecord record;  // sequence 0: nothing was ever written
  int next = 0;              // index of the place whose content does not count
};
// NOT_SUPPORTED, CORRUPT: a record was there and none is whole, or it is another namespace's.
Result<RecordChoice> choose_record(const Uuid& nspace, ConstBytes first, ConstBytes second);

}  // namespace bb::io::nvme
