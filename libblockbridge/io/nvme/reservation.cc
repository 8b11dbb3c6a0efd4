// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/mutant.h"

namespace bb::io::nvme {

std::string_view reservation_type_name(ReservationType type) {
  switch (type) {
    case ReservationType::kNone:
      return "none";
    case ReservationType::kWriteExclusive:
      return "write-exclusive";
    case ReservationType::kExclusiveAccess:
      return "exclusive-access";
    case ReservationType::kWriteExclusiveRegistrants:
      return "write-exclusive-registrants";
    case ReservationType::kExclusiveAccessRegistrants:
      return "exclusive-access-registrants";
    case ReservationType::kWriteExclusiveAll:
      return "write-exclusive-all";
    case ReservationType::kExclusiveAccessAll:
      return "exclusive-access-all";
  }
  return "?";
}
namespace {

ReservationOutcome refuse(NvmeStatus status) {
  ReservationOutcome outcome;
  outcome.status = final_status(status);
  return outcome;
}
ReservationOutcome keep(const ReservationState& now) {
  ReservationOutcome outcome;
  outcome.next = now;
  return outcome;
}
ReservationOutcome conflict() { return refuse(NvmeStatus::kReservationConflict); }

auto place_of(auto& registrants, const Uuid& host) {
  return std::ranges::lower_bound(registrants, host, {}, &Registrant::host);
}

// True when `host` is registered with `key`: what every Acquire and Release asks first.
bool knows_key(const ReservationState& state, const Uuid& host, uint64_t key) {
  const Registrant* registrant = state.find(host);
  return registrant != nullptr && registrant->key == key;
}

void end_reservation(ReservationState& state) {
  state.type = ReservationType::kNone;
  state.holder = {};
}

void give_reservation(ReservationState& state, ReservationType type, const Uuid& host) {
  state.type = type;
  state.holder = held_by_all(type) ? Uuid{} : host;
}

// With its last holder goes the reservation (8.19.4).
void remove_registrant(ReservationState& state, const Uuid& host) {
  bool last = state.registrants.size() == 1;
  bool ends = held_by_all(state.type) ? last : state.holds(host);
  state.registrants.erase(place_of(state.registrants, host));
  if (ends) end_reservation(state);
}

void notify_others(ReservationOutcome& outcome, const ReservationState& whose, const Uuid& except,
                   NotificationType type) {
  for (const Registrant& one : whose.registrants) {
    if (one.host != except) outcome.notices.push_back({one.host, type});
  }
}

NvmeStatus add_registrant(ReservationState& state, const Uuid& host, uint64_t key) {
  if (state.registrants.size() >= kRegistrantsMax) return NvmeStatus::kInternalError;
  state.registrants.insert(place_of(state.registrants, host), {.host = host, .key = key});
  return NvmeStatus::kSuccess;
}

// 8.19.3: a second registration must name the same key.
NvmeStatus register_key(ReservationState& state, const Uuid& host, const RegisterCommand& command) {
  const Registrant* found = state.find(host);
  if (found == nullptr) return add_registrant(state, host, command.new_key);
  return found->key == command.new_key ? NvmeStatus::kSuccess : NvmeStatus::kReservationConflict;
}

// 8.19.3: with IEKEY whether or not the host is registered. A reservation stays as it is.
NvmeStatus replace_key(ReservationState& state, const Uuid& host, const RegisterCommand& command) {
  const Registrant* found = state.find(host);
  if (!command.ignore_key && (found == nullptr || found->key != command.current_key)) {
    return NvmeStatus::kReservationConflict;
  }
  if (found == nullptr) return add_registrant(state, host, command.new_key);
  place_of(state.registrants, host)->key = command.new_key;
  return NvmeStatus::kSuccess;
}

// 8.19.4
NvmeStatus unregister(ReservationOutcome& outcome, const Uuid& host,
                      const RegisterCommand& command) {
  ReservationState& state = outcome.next;
  const Registrant* found = state.find(host);
  if (found == nullptr || (!command.ignore_key && found->key != command.current_key)) {
    return NvmeStatus::kReservationConflict;
  }
  ReservationType before = state.type;
  remove_registrant(state, host);
  bool tell = before == ReservationType::kWriteExclusiveRegistrants ||
              before == ReservationType::kExclusiveAccessRegistrants;
  if (tell && state.type == ReservationType::kNone) {
    notify_others(outcome, state, host, NotificationType::kReservationReleased);
  }
  return NvmeStatus::kSuccess;
}

// Unregisters those whom `chosen` names and notes that they were preempted. How many they were.
size_t preempt_registrants(ReservationOutcome& outcome, const Uuid& by, auto chosen) {
  std::vector<Uuid> hosts;
  for (const Registrant& one : outcome.next.registrants) {
    if (chosen(one)) hosts.push_back(one.host);
  }
  for (const Uuid& host : hosts) {
    remove_registrant(outcome.next, host);
    if (host == by) continue;
    outcome.preempted.push_back(host);
    outcome.notices.push_back({host, NotificationType::kRegistrationPreempted});
  }
  return hosts.size();
}

// 8.19.7. The reservation changes hands when the key is its holder's, or 0 where all hold it.
ReservationOutcome preempt(const ReservationState& now, const Uuid& host,
                           const AcquireCommand& command) {
  ReservationOutcome outcome = keep(now);
  outcome.abort = command.action == AcquireAction::kPreemptAndAbort;
  uint64_t key = command.preempt_key;
  const Registrant* holder = now.find(now.holder);
  bool takes = held_by_all(now.type) ? key == 0 : holder != nullptr && holder->key == key;
  if (takes) {
    bool everybody = held_by_all(now.type);
    preempt_registrants(outcome, host, [&](const Registrant& one) {
      return one.host != host && (everybody || one.key == key);
    });
    give_reservation(outcome.next, command.type, host);
  } else {
    if (key == 0) return refuse(NvmeStatus::kInvalidField);
    size_t removed =
        preempt_registrants(outcome, host, [key](const Registrant& one) { return one.key == key; });
    if (removed == 0) return conflict();
  }
  if (takes && now.type != command.type) {
    notify_others(outcome, outcome.next, host, NotificationType::kReservationReleased);
  }
  std::ranges::sort(outcome.notices, {}, &ReservationNotice::host);
  ++outcome.next.generation;
  return outcome;
}

// Who may do what while a reservation of a type is held (figure "Command Behavior in the Presence
// of a Reservation"); a holder may do everything.
struct Rule {
  bool others_read;
  bool others_write;
  bool registrants_read;
  bool registrants_write;
};
constexpr Rule kRules[kReservationTypeMax + 1] = {
    {true, true, true, true},      // none
    {true, false, true, false},    // write exclusive
    {false, false, false, false},  // exclusive access
    {true, false, true, true},     // write exclusive, registrants only
    {false, false, true, true},    // exclusive access, registrants only
    {true, false, true, true},     // write exclusive, all registrants
    {false, false, true, true},    // exclusive access, all registrants
};

}  // namespace

const Registrant* ReservationState::find(const Uuid& host) const {
  auto at = place_of(registrants, host);
  return at != registrants.end() && at->host == host ? &*at : nullptr;
}

bool ReservationState::holds(const Uuid& host) const {
  if (type == ReservationType::kNone) return false;
  return held_by_all(type) ? find(host) != nullptr : holder == host;
}

void ReservationState::set_owner(const Uuid& host, HostTag owner) {
  auto at = place_of(registrants, host);
  if (at != registrants.end() && at->host == host) at->owner = owner;
}

bool ReservationState::is_anothers(const Uuid& host, HostTag owner) const {
  const Registrant* found = find(host);
  return found != nullptr && found->owner != 0 && found->owner != owner;
}

// Names are given out by whoever configures the hosts, so no more than accidents must be told
// apart: names that differ in a few letters always are.
HostTag host_tag(std::string_view host_nqn) {
  HostTag tag = crc32c(as_bytes(host_nqn));
  return tag != 0 ? tag : 1;
}

NvmeStatus check_access(const ReservationState& state, const Uuid& host, AccessKind kind) {
  if (state.type == ReservationType::kNone || state.holds(host)) return NvmeStatus::kSuccess;
  const Rule& rule = kRules[static_cast<size_t>(state.type)];
  bool registrant =
      BB_MUTANT(kReserveAnyHost) ? !state.registrants.empty() : state.find(host) != nullptr;
  bool allowed = kind == AccessKind::kRead
                     ? (registrant ? rule.registrants_read : rule.others_read)
                     : (registrant ? rule.registrants_write : rule.others_write);
  return allowed ? NvmeStatus::kSuccess : final_status(NvmeStatus::kReservationConflict);
}

ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const RegisterCommand& command, bool may_persist) {
  if (host.is_nil()) return refuse(NvmeStatus::kCommandSequenceError);
  bool needs_key = command.action != RegisterAction::kUnregister;
  if (needs_key && command.new_key == 0) return refuse(NvmeStatus::kInvalidField);
  if (command.persist == PersistChange::kOn && !may_persist) {
    return refuse(NvmeStatus::kInvalidField);
  }
  ReservationOutcome outcome = keep(now);
  NvmeStatus status = NvmeStatus::kSuccess;
  switch (command.action) {
    case RegisterAction::kRegister:
      status = register_key(outcome.next, host, command);
      break;
    case RegisterAction::kUnregister:
      status = unregister(outcome, host, command);
      break;
    case RegisterAction::kReplace:
      status = replace_key(outcome.next, host, command);
      break;
  }
  if (status != NvmeStatus::kSuccess) return refuse(status);
  if (command.persist != PersistChange::kNone) {
    outcome.next.persistent = command.persist == PersistChange::kOn;
  }
  ++outcome.next.generation;
  return outcome;
}

ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const AcquireCommand& command) {
  if (command.type == ReservationType::kNone) return refuse(NvmeStatus::kInvalidField);
  if (!knows_key(now, host, command.current_key)) return conflict();
  if (command.action != AcquireAction::kAcquire) return preempt(now, host, command);
  ReservationOutcome outcome = keep(now);
  if (now.type == ReservationType::kNone) {
    give_reservation(outcome.next, command.type, host);
    return outcome;
  }
  // 8.19.5: once more what it holds already is no error; anything else is.
  return now.holds(host) && now.type == command.type ? outcome : conflict();
}

ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const ReleaseCommand& command) {
  if (!knows_key(now, host, command.current_key)) return conflict();
  ReservationOutcome outcome = keep(now);
  if (command.action == ReleaseAction::kClear) {  // 8.19.8
    notify_others(outcome, now, host, NotificationType::kReservationPreempted);
    outcome.next.registrants.clear();
    end_reservation(outcome.next);
    ++outcome.next.generation;
    return outcome;
  }
  if (!now.holds(host)) return outcome;  // 8.19.6: succeeds, without effect
  if (now.type != command.type) return refuse(NvmeStatus::kInvalidField);
  end_reservation(outcome.next);
  bool quiet =
      now.type == ReservationType::kWriteExclusive || now.type == ReservationType::kExclusiveAccess;
  if (!quiet) notify_others(outcome, now, host, NotificationType::kReservationReleased);
  return outcome;
}

bool consistent(const ReservationState& state) {
  const auto& all = state.registrants;
  if (all.size() > kRegistrantsMax) return false;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].key == 0 || all[i].host.is_nil() || (i > 0 && all[i - 1].host >= all[i].host))
      return false;
  }
  if (static_cast<uint8_t>(state.type) > kReservationTypeMax) return false;
  if (state.type == ReservationType::kNone) return state.holder.is_nil();
  if (held_by_all(state.type)) return state.holder.is_nil() && !all.empty();
  return state.find(state.holder) != nullptr;
}

}  // namespace bb::io::nvme
