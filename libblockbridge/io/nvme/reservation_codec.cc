// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation_codec.h"

#include <cstring>

#include "base/check.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kIgnoreKey = 1u << 3;

uint8_t action_of(const Sqe& sqe) { return sqe.cdw10 & 7; }
uint8_t type_of(const Sqe& sqe) { return static_cast<uint8_t>(sqe.cdw10 >> 8); }
bool ignores_key(const Sqe& sqe) { return (sqe.cdw10 & kIgnoreKey) != 0; }

uint32_t action_and_type(uint8_t action, ReservationType type) {
  return action | (static_cast<uint32_t>(type) << 8);
}

}  // namespace

std::optional<RegisterCommand> decode_register(const Sqe& sqe, ConstBytes data) {
  BB_CHECK(data.size() >= kRegisterDataBytes, "register data of {} bytes", data.size());
  uint32_t persist = sqe.cdw10 >> 30;
  if (action_of(sqe) > static_cast<uint8_t>(RegisterAction::kReplace) || persist == 1) return {};
  return RegisterCommand{.action = static_cast<RegisterAction>(action_of(sqe)),
                         .ignore_key = ignores_key(sqe),
                         .persist = static_cast<PersistChange>(persist),
                         .current_key = load_le<uint64_t>(data.data()),
                         .new_key = load_le<uint64_t>(data.data() + 8)};
}

std::optional<AcquireCommand> decode_acquire(const Sqe& sqe, ConstBytes data) {
  BB_CHECK(data.size() >= kAcquireDataBytes, "acquire data of {} bytes", data.size());
  if (action_of(sqe) > static_cast<uint8_t>(AcquireAction::kPreemptAndAbort)) return {};
  if (ignores_key(sqe) || type_of(sqe) == 0 || type_of(sqe) > kReservationTypeMax) return {};
  return AcquireCommand{.action = static_cast<AcquireAction>(action_of(sqe)),
                        .type = static_cast<ReservationType>(type_of(sqe)),
                        .current_key = load_le<uint64_t>(data.data()),
                        .preempt_key = load_le<uint64_t>(data.data() + 8)};
}

// The type of a Clear means nothing; that of a Release that does not fit is found later.
std::optional<ReleaseCommand> decode_release(const Sqe& sqe, ConstBytes data) {
  BB_CHECK(data.size() >= kReleaseDataBytes, "release data of {} bytes", data.size());
  if (action_of(sqe) > static_cast<uint8_t>(ReleaseAction::kClear) || ignores_key(sqe)) return {};
  bool typed = action_of(sqe) == static_cast<uint8_t>(ReleaseAction::kRelease);
  if (typed && type_of(sqe) > kReservationTypeMax) return {};
  return ReleaseCommand{
      .action = static_cast<ReleaseAction>(action_of(sqe)),
      .type = typed ? static_cast<ReservationType>(type_of(sqe)) : ReservationType::kNone,
      .current_key = load_le<uint64_t>(data.data())};
}

uint32_t encode(const RegisterCommand& command, Bytes data) {
  BB_CHECK(data.size() >= kRegisterDataBytes, "register data in {} bytes", data.size());
  store_le<uint64_t>(data.data(), command.current_key);
  store_le<uint64_t>(data.data() + 8, command.new_key);
  return static_cast<uint32_t>(command.action) | (command.ignore_key ? kIgnoreKey : 0) |
         (static_cast<uint32_t>(command.persist) << 30);
}

uint32_t encode(const AcquireCommand& command, Bytes data) {
  BB_CHECK(data.size() >= kAcquireDataBytes, "acquire data in {} bytes", data.size());
  store_le<uint64_t>(data.data(), command.current_key);
  store_le<uint64_t>(data.data() + 8, command.preempt_key);
  return action_and_type(static_cast<uint8_t>(command.action), command.type);
}

uint32_t encode(const ReleaseCommand& command, Bytes data) {
  BB_CHECK(data.size() >= kReleaseDataBytes, "release data in {} bytes", data.size());
  store_le<uint64_t>(data.data(), command.current_key);
  return action_and_type(static_cast<uint8_t>(command.action), command.type);
}

ReportCommand decode_report(const Sqe& sqe) {
  return {.length_bytes = (uint64_t{sqe.cdw10} + 1) * 4,
          .extended = (sqe.cdw11 & kReportExtended) != 0};
}

std::vector<std::byte> encode_report(const ReservationState& state, bool extended) {
  constexpr uint16_t kDynamic = 0xffff;  // controllers come and go: a registration names no one
  size_t header = extended ? kReportExtendedHeaderBytes : kReportHeaderBytes;
  size_t entry = extended ? kReportExtendedEntryBytes : kReportEntryBytes;
  std::vector<std::byte> data(header + entry * state.registrants.size());
  store_le<uint32_t>(data.data(), state.generation);
  data[4] = static_cast<std::byte>(state.type);
  store_le<uint16_t>(&data[5], static_cast<uint16_t>(state.registrants.size()));
  data[9] = static_cast<std::byte>(state.persistent ? 1 : 0);
  size_t at = header;
  for (const Registrant& one : state.registrants) {
    store_le<uint16_t>(&data[at], kDynamic);
    data[at + 2] = static_cast<std::byte>(state.holds(one.host) ? 1 : 0);
    size_t host_at = extended ? at + 16 : at + 8;
    size_t key_at = extended ? at + 8 : at + 16;
    std::memcpy(&data[host_at], one.host.bytes.data(), extended ? 16 : 8);
    store_le<uint64_t>(&data[key_at], one.key);
    at += entry;
  }
  return data;
}

size_t report_bytes(ConstBytes data) {
  BB_CHECK(data.size() >= kReportExtendedHeaderBytes, "a report of {} bytes", data.size());
  size_t count = load_le<uint16_t>(&data[5]);
  return kReportExtendedHeaderBytes + count * kReportExtendedEntryBytes;
}

Result<ReservationReport> decode_report(ConstBytes data) {
  if (report_bytes(data) > data.size()) {
    return error(Code::k_io_error, "a reservation report of {} bytes ends after {}",
                 report_bytes(data), data.size());
  }
  auto type = static_cast<uint8_t>(data[4]);
  if (type > kReservationTypeMax) {
    return error(Code::k_io_error, "a reservation report of type {}, and {} is the last", type,
                 kReservationTypeMax);
  }
  ReservationReport report{.generation = load_le<uint32_t>(data.data()),
                           .type = static_cast<ReservationType>(type),
                           .persistent = (data[9] & std::byte{1}) != std::byte{}};
  size_t end = report_bytes(data);
  for (size_t at = kReportExtendedHeaderBytes; at < end; at += kReportExtendedEntryBytes) {
    ReservationReport::Host& one = report.hosts.emplace_back();
    one.holds = (data[at + 2] & std::byte{1}) != std::byte{};
    one.key = load_le<uint64_t>(&data[at + 8]);
    std::memcpy(one.host.bytes.data(), &data[at + 16], one.host.bytes.size());
  }
  return report;
}

std::vector<std::byte> encode_reservation_log(const ReservationLogPage& page) {
  std::vector<std::byte> data(kReservationLogBytes);
  if (page.count == 0) return data;
  store_le<uint64_t>(data.data(), page.count);
  data[8] = static_cast<std::byte>(page.type);
  data[9] = static_cast<std::byte>(page.more);
  store_le<uint32_t>(&data[12], page.nsid);
  return data;
}

}  // namespace bb::io::nvme
