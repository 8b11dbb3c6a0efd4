// SPDX-License-Identifier: Apache-2.0
// Reservation commands of an NvmeDevice (NVMe base 2.0, 7.2 to 7.5). They go by any path: to the
// controllers of a subsystem a host is one, whichever of its connections it speaks by.
#include "base/units.h"
#include "io/nvme/nvme_device.h"
#include "io/nvme/reservation_codec.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kLookAgainNs = kNsPerMs;
constexpr size_t kReportBytes = 4096;

Sqe command_of(IoOpcode opcode, uint32_t cdw10) {
  Sqe sqe;
  sqe.opcode = static_cast<uint8_t>(opcode);
  sqe.cdw10 = cdw10;
  return sqe;
}

}  // namespace

Task<Status> NvmeDevice::reserve(RegisterCommand command) {
  std::byte data[kRegisterDataBytes];
  Sqe sqe = command_of(IoOpcode::kReservationRegister, encode(command, data));
  co_return co_await run("reservation register", sqe, data, true);
}

Task<Status> NvmeDevice::reserve(AcquireCommand command) {
  std::byte data[kAcquireDataBytes];
  Sqe sqe = command_of(IoOpcode::kReservationAcquire, encode(command, data));
  co_return co_await run("reservation acquire", sqe, data, true);
}

Task<Status> NvmeDevice::reserve(ReleaseCommand command) {
  std::byte data[kReleaseDataBytes];
  Sqe sqe = command_of(IoOpcode::kReservationRelease, encode(command, data));
  co_return co_await run("reservation release", sqe, data, true);
}

// Asked again, with as much room as it takes, when it does not fit.
Task<Result<ReservationReport>> NvmeDevice::reservation() {
  size_t bytes = kReportBytes;
  for (;;) {
    std::vector<std::byte> data(bytes);
    Sqe sqe = command_of(IoOpcode::kReservationReport, static_cast<uint32_t>(bytes / 4 - 1));
    sqe.cdw11 = kReportExtended;
    BB_CO_TRY(co_await run("reservation report", sqe, data, false));
    size_t wanted = report_bytes(data);
    if (wanted <= bytes) co_return decode_report(data);
    if (wanted > info_.transfer_max_bytes) {
      co_return error(Code::k_not_supported, "{}: a reservation report of {} bytes, above {}",
                      info_.uri, wanted, info_.transfer_max_bytes);
    }
    bytes = wanted;
  }
}

Task<Status> NvmeDevice::run(std::string_view what, Sqe sqe, Bytes data, bool to_target) {
  if (!gate_.enter()) {
    co_return error(Code::k_bad_state, "{}: {}: the device is closed", info_.uri, what);
  }
  SyncCommand command(context_.loop);
  command.sqe = sqe;
  command.sqe.nsid = options_.association.nsid;
  command.carry(data, to_target);
  Status status = co_await run_by_a_path(&command);
  bool open_end = !command.lost.ok() && command.sent && to_target;
  if (open_end) {
    status =
        error(status.code(), "{} -> it may have taken effect: ask for a report", status.text());
  }
  resume();  // it had a slot that others may wait for
  gate_.leave();
  co_return status.with_context(fmt::format("{}: {}", info_.uri, what));
}

Task<Status> NvmeDevice::run_by_a_path(SyncCommand* command) {
  uint64_t started_ns = context_.loop.now_ns();
  for (;;) {
    if (stopping_) co_return error(Code::k_cancelled, "the device closes");
    if (auto path = chooser_.choose(loads_)) {
      co_return co_await paths_[*path]->run(command, started_ns + options_.io_timeout_ns);
    }
    uint64_t patience_ns = usable() ? options_.io_timeout_ns : this->patience_ns();
    if (context_.loop.now_ns() - started_ns >= patience_ns) {
      co_return error(Code::k_unavailable, "{}", usable() ? "no room" : why_unusable());
    }
    co_await context_.loop.sleep_for(kLookAgainNs);
  }
}

}  // namespace bb::io::nvme
