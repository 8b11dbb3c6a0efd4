// SPDX-License-Identifier: Apache-2.0
#include "backplane/drive_reservations.h"

#include <algorithm>

#include "base/log.h"
#include "io/buffer.h"

namespace bb::backplane {

using io::nvme::kReservationRecordBytes;
using io::nvme::ReservationState;

DriveReservations::DriveReservations(io::Device& device, const Uuid& drive) : device_(device) {
  record_.nspace = drive;
}

io::Task<Result<ReservationState>> DriveReservations::load() {
  io::AlignedBuffer copies[2] = {io::AlignedBuffer(kReservationRecordBytes),
                                 io::AlignedBuffer(kReservationRecordBytes)};
  Status unreadable;
  for (int i = 0; i < 2; ++i) {
    // One unreadable copy is what the other one is for: it counts as damaged.
    Status status = co_await device_.read(kReservationOffsetsBytes[i], copies[i].bytes());
    if (status.ok()) continue;
    if (!unreadable.ok()) co_return status.with_context("reservations");
    unreadable = status;
    std::ranges::fill(copies[i].bytes(), std::byte{0xff});
  }
  auto choice = io::nvme::choose_record(record_.nspace, copies[0].bytes(), copies[1].bytes());
  if (!choice.ok()) co_return choice.status();
  // Half of it could not be read, so it may have held anything.
  if (choice->record.sequence == 0 && !unreadable.ok())
    co_return unreadable.with_context("reservations");
  record_ = std::move(choice->record);
  next_ = choice->next;
  co_return record_.state;
}

// Failed attempts may have left their sequences in a copy: this one is newer than all of them.
io::Task<Status> DriveReservations::write(ReservationState state) {
  attempted_ = std::max(attempted_, record_.sequence) + 1;
  io::nvme::ReservationRecord next{
      .nspace = record_.nspace, .sequence = attempted_, .state = std::move(state)};
  io::AlignedBuffer bytes(kReservationRecordBytes);
  encode_record(next, bytes.bytes());
  for (int i = 0; i < 2; ++i) {
    int copy = next_;
    Status status = co_await device_.write(kReservationOffsetsBytes[copy], bytes.bytes());
    if (status.ok()) status = co_await device_.flush();
    if (!status.ok())
      co_return status.with_context(fmt::format("reservations, copy {}", copy == 0 ? 'A' : 'B'));
    next_ = 1 - copy;  // whole and durable: now the other one may be overwritten
  }
  record_ = std::move(next);
  co_return Status();
}

io::Task<Status> DriveReservations::save(ReservationState state) {
  Status status = co_await write(std::move(state));
  if (status.ok()) co_return status;
  // One copy may have it, and would be believed at the next start: what was is written once more.
  Status undone = co_await write(record_.state);
  log_warn(
      "{} -> {}", status.to_string(),
      undone.ok() ? "the reservation stays as it was" : "which reservation it holds is unknown");
  co_return status;
}

}  // namespace bb::backplane
