// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <optional>
#include <variant>

#include "capi/handle.h"
#include "io/device_reservations.h"

namespace {

using bb::Code;
using bb::Result;
using bb::Status;
using bb::io::DeviceReservations;
using namespace bb::io::nvme;  // NOLINT: all of it is theirs
namespace capi = bb::capi;

using Command = std::variant<RegisterCommand, AcquireCommand, ReleaseCommand>;

RegisterCommand registration(RegisterAction action, const bb_reservation_command& from) {
  RegisterCommand command{.action = action,
                          .ignore_key = (from.flags & BB_RESERVATION_IGNORE_KEY) != 0,
                          .current_key = from.key,
                          .new_key = from.other_key};
  if ((from.flags & BB_RESERVATION_PERSIST) != 0) command.persist = PersistChange::kOn;
  if ((from.flags & BB_RESERVATION_FORGET) != 0) command.persist = PersistChange::kOff;
  return command;
}

AcquireCommand acquisition(AcquireAction action, const bb_reservation_command& from) {
  return {.action = action,
          .type = static_cast<ReservationType>(from.type),
          .current_key = from.key,
          .preempt_key = from.other_key};
}

std::optional<Command> command_of(const bb_reservation_command& from) {
  switch (from.action) {
    case BB_RESERVATION_REGISTER:
      return registration(RegisterAction::kRegister, from);
    case BB_RESERVATION_UNREGISTER:
      return registration(RegisterAction::kUnregister, from);
    case BB_RESERVATION_REPLACE:
      return registration(RegisterAction::kReplace, from);
    case BB_RESERVATION_ACQUIRE:
      return acquisition(AcquireAction::kAcquire, from);
    case BB_RESERVATION_PREEMPT:
      return acquisition(AcquireAction::kPreempt, from);
    case BB_RESERVATION_PREEMPT_AND_ABORT:
      return acquisition(AcquireAction::kPreemptAndAbort, from);
    case BB_RESERVATION_RELEASE:
      return ReleaseCommand{.action = ReleaseAction::kRelease,
                            .type = static_cast<ReservationType>(from.type),
                            .current_key = from.key};
    case BB_RESERVATION_CLEAR:
      return ReleaseCommand{.action = ReleaseAction::kClear, .current_key = from.key};
    default:
      return {};
  }
}

Result<Command> checked(const bb_reservation_command& from) {
  constexpr uint32_t kFlags =
      BB_RESERVATION_IGNORE_KEY | BB_RESERVATION_PERSIST | BB_RESERVATION_FORGET;
  auto refuse = [](std::string_view what, uint32_t value, std::string_view allowed) {
    return bb::error(Code::k_invalid_argument, "bb_device_reserve: {} {}: {}", what, value,
                     allowed);
  };
  auto command = command_of(from);
  if (!command) return refuse("action", from.action, "there is none of this number");
  if ((from.flags & ~kFlags) != 0) return refuse("flags", from.flags, "some are not known");
  bool registers = std::holds_alternative<RegisterCommand>(*command);
  if (!registers && from.flags != 0) return refuse("flags", from.flags, "of registrations only");
  bool both = (from.flags & BB_RESERVATION_PERSIST) != 0;
  if (both && (from.flags & BB_RESERVATION_FORGET) != 0)
    return refuse("flags", from.flags, "to persist and to forget exclude each other");
  bool typed =
      std::holds_alternative<AcquireCommand>(*command) || from.action == BB_RESERVATION_RELEASE;
  bool fits = typed ? from.type >= 1 && from.type <= kReservationTypeMax : from.type == 0;
  if (!fits) return refuse("type", from.type, typed ? "it is not 1 to 6" : "it takes none");
  return *command;
}

Result<DeviceReservations*> reservations_of(bb::io::Device& device) {
  if (auto* found = dynamic_cast<DeviceReservations*>(&device)) return found;
  return bb::error(Code::k_not_supported, "{}: only nvme-tcp devices can be reserved",
                   device.info().uri);
}

bb::io::Task<Status> reserve(bb_device* device, Command command) {
  BB_CO_ASSIGN(DeviceReservations * of, reservations_of(*device->device));
  co_return co_await std::visit([of](auto one) { return of->reserve(one); }, command);
}

bb::io::Task<Status> report(bb_device* device, ReservationReport* into) {
  BB_CO_ASSIGN(DeviceReservations * of, reservations_of(*device->device));
  BB_CO_ASSIGN(*into, co_await of->reservation());
  co_return Status();
}

bb::Json to_json(const ReservationReport& report) {
  bb::Json hosts = bb::Json::array();
  for (const auto& one : report.hosts) {
    hosts.push_back({{"host", one.host.to_string()},
                     {"key", fmt::format("0x{:016x}", one.key)},
                     {"holds", one.holds}});
  }
  return {{"generation", report.generation},
          {"type", reservation_type_name(report.type)},
          {"persistent", report.persistent},
          {"hosts", std::move(hosts)}};
}

}  // namespace

int bb_device_reserve(bb_device* device, const bb_reservation_command* command) {
  if (device == nullptr || command == nullptr)
    return capi::invalid("bb_device_reserve: an argument is NULL");
  bb_reservation_command full = BB_RESERVATION_COMMAND_INIT;
  Status taken = capi::take_options("bb_device_reserve", command, &full);
  if (!taken.ok()) return capi::code_of(taken);
  auto wanted = checked(full);
  if (!wanted.ok()) return capi::code_of(wanted.status());
  return capi::code_of(
      capi::call(device->runtime, [=, &wanted] { return reserve(device, *wanted); }));
}

int bb_device_get_reservation(bb_device* device, char** json) {
  if (device == nullptr || json == nullptr)
    return capi::invalid("bb_device_get_reservation: an argument is NULL");
  *json = nullptr;
  ReservationReport found;
  Status status = capi::call(device->runtime, [device, &found] { return report(device, &found); });
  if (status.ok()) *json = capi::copy_text(bb::dump_json(to_json(found)));
  return capi::code_of(status);
}
