// SPDX-License-Identifier: Apache-2.0
// pure: the bytes of reservation commands and what they return (NVMe base 2.0, 7.2 to 7.5)
#pragma once

#include <optional>
#include <vector>

#include "io/nvme/command.h"
#include "io/nvme/reservation.h"

namespace bb::io::nvme {

inline constexpr size_t kRegisterDataBytes = 16;
inline constexpr size_t kAcquireDataBytes = 16;
inline constexpr size_t kReleaseDataBytes = 8;

// `data` is as long as the command's constant says. Nothing where a field has a value that is
// reserved, or IEKEY is set where it may not be: Invalid Field.
std::optional<RegisterCommand> decode_register(const Sqe& sqe, ConstBytes data);
std::optional<AcquireCommand> decode_acquire(const Sqe& sqe, ConstBytes data);
std::optional<ReleaseCommand> decode_release(const Sqe& sqe, ConstBytes data);

// CDW10 and the data of a command.
uint32_t encode(const RegisterCommand& command, Bytes data);
uint32_t encode(const AcquireCommand& command, Bytes data);
uint32_t encode(const ReleaseCommand& command, Bytes data);

inline constexpr uint32_t kReportExtended = 1u << 0;  // EDS, in CDW11
struct ReportCommand {
  uint64_t length_bytes = 0;
  bool extended = false;  // EDS: with identifiers of 128 bits
};
ReportCommand decode_report(const Sqe& sqe);

inline constexpr size_t kReportHeaderBytes = 24;
inline constexpr size_t kReportEntryBytes = 24;
inline constexpr size_t kReportExtendedHeaderBytes = 64;
inline constexpr size_t kReportExtendedEntryBytes = 64;

// The Reservation Status data structure, whole. The short one has room for the first 8 bytes of a
// host's identifier only, which is why a controller with long identifiers refuses to send it.
std::vector<std::byte> encode_report(const ReservationState& state, bool extended);

// The extended structure as a host reads it: `data` has at least the header. How long the whole of
// it is, and what it says; IO_ERROR when a field is not what it may be, or the data ends before.
size_t report_bytes(ConstBytes data);
Result<ReservationReport> decode_report(ConstBytes data);

// The Reservation Notification log page (80h).
inline constexpr size_t kReservationLogBytes = 64;
struct ReservationLogPage {
  uint64_t count = 0;  // of pages so far, this one included; 0: no page
  NotificationType type = NotificationType::kReservationReleased;
  uint8_t more = 0;  // pages behind it
  uint32_t nsid = 0;
};
std::vector<std::byte> encode_reservation_log(const ReservationLogPage& page);

// RESCAP of Identify Namespace.
inline constexpr uint8_t kRescapPersist = 1u << 0;
inline constexpr uint8_t kRescapAllTypes = 0x7e;
inline constexpr uint8_t kRescapIgnoreKey13 = 1u << 7;  // IEKEY as of revision 1.3
constexpr uint8_t reservation_capabilities(bool may_persist) {
  return static_cast<uint8_t>(kRescapAllTypes | kRescapIgnoreKey13 |
                              (may_persist ? kRescapPersist : 0));
}

}  // namespace bb::io::nvme
