// SPDX-License-Identifier: Apache-2.0
// pure: reservations of one namespace (NVMe base 2.0, 8.19); values in, values out
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/uuid.h"
#include "io/nvme/status.h"

namespace bb::io::nvme {

// Registrants of one namespace. A host beyond them gets Internal Error, which tells it not to
// retry.
inline constexpr size_t kRegistrantsMax = 128;

enum class ReservationType : uint8_t {
  kNone = 0,
  kWriteExclusive = 1,
  kExclusiveAccess = 2,
  kWriteExclusiveRegistrants = 3,
  kExclusiveAccessRegistrants = 4,
  kWriteExclusiveAll = 5,  // every registrant holds it
  kExclusiveAccessAll = 6,
};
inline constexpr uint8_t kReservationTypeMax = 6;

std::string_view reservation_type_name(ReservationType type);  // "write-exclusive"

constexpr bool held_by_all(ReservationType type) {
  return type == ReservationType::kWriteExclusiveAll ||
         type == ReservationType::kExclusiveAccessAll;
}

// Whose an identifier is, in short: the CRC-32C of the host's NQN. 0: not known.
using HostTag = uint32_t;
HostTag host_tag(std::string_view host_nqn);  // never 0

// A host, by the identifier of its Connect: all its controllers share the registration.
struct Registrant {
  Uuid host;
  uint64_t key = 0;  // never 0
  HostTag owner = 0;
  bool operator==(const Registrant&) const = default;
};

// All there is to know of a namespace's reservation; what a record keeps through loss of power.
struct ReservationState {
  uint32_t generation = 0;
  bool persistent = false;  // PTPL
  ReservationType type = ReservationType::kNone;
  Uuid holder;                          // nil where nobody or everybody holds it
  std::vector<Registrant> registrants;  // by host, ascending

  bool operator==(const ReservationState&) const = default;
  const Registrant* find(const Uuid& host) const;
  bool holds(const Uuid& host) const;
  // The registration of `host`, if there is one, belongs to who is called so.
  void set_owner(const Uuid& host, HostTag owner);
  // Is it registered by somebody who is called otherwise?
  bool is_anothers(const Uuid& host, HostTag owner) const;
};

// What a namespace tells of its reservation.
struct ReservationReport {
  struct Host {
    Uuid host;  // its identifier
    uint64_t key = 0;
    bool holds = false;
    bool operator==(const Host&) const = default;
  };
  uint32_t generation = 0;  // counts the changes
  ReservationType type = ReservationType::kNone;
  bool persistent = false;  // lasts through loss of power
  std::vector<Host> hosts;  // the registrants
  bool operator==(const ReservationReport&) const = default;
};

// What a command does to the namespace, as the conflict table groups them (NVM command set 1.0,
// section 1.4.2.4 and figure "Command Behavior in the Presence of a Reservation"). Copy reads and
// writes: whoever may write may read, so it is a write.
enum class AccessKind : uint8_t { kRead, kWrite };

// May `host` do that now? ReservationConflict if not.
NvmeStatus check_access(const ReservationState& state, const Uuid& host, AccessKind kind);

enum class RegisterAction : uint8_t { kRegister = 0, kUnregister = 1, kReplace = 2 };
enum class AcquireAction : uint8_t { kAcquire = 0, kPreempt = 1, kPreemptAndAbort = 2 };
enum class ReleaseAction : uint8_t { kRelease = 0, kClear = 1 };
enum class PersistChange : uint8_t { kNone = 0, kOff = 2, kOn = 3 };  // CPTPL

struct RegisterCommand {
  RegisterAction action = RegisterAction::kRegister;
  bool ignore_key = false;  // IEKEY
  PersistChange persist = PersistChange::kNone;
  uint64_t current_key = 0;
  uint64_t new_key = 0;
};

struct AcquireCommand {
  AcquireAction action = AcquireAction::kAcquire;
  ReservationType type = ReservationType::kNone;
  uint64_t current_key = 0;
  uint64_t preempt_key = 0;
};

struct ReleaseCommand {
  ReleaseAction action = ReleaseAction::kRelease;
  ReservationType type = ReservationType::kNone;
  uint64_t current_key = 0;
};

enum class NotificationType : uint8_t {  // as the log page has them
  kRegistrationPreempted = 1,
  kReservationReleased = 2,
  kReservationPreempted = 3,
};

struct ReservationNotice {
  Uuid host;
  NotificationType type = NotificationType::kReservationReleased;
  bool operator==(const ReservationNotice&) const = default;
};

// What a command comes to. Nothing has happened yet: whoever carries it out keeps `next` durably if
// it is to last, makes it the state, ends what `preempted` hosts have in flight if `abort` says so,
// tells the hosts, and only then completes the command.
struct ReservationOutcome {
  NvmeStatus status = NvmeStatus::kSuccess;  // any other: the state stays, the rest is empty
  ReservationState next;
  bool abort = false;
  std::vector<Uuid> preempted;             // who lost a registration or the reservation
  std::vector<ReservationNotice> notices;  // by host
};

// A host without an identifier (nil) is nobody that could be told from others: Command Sequence
// Error. `may_persist`: there is a place where a record outlives the power.
ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const RegisterCommand& command, bool may_persist);
ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const AcquireCommand& command);
ReservationOutcome reserve(const ReservationState& now, const Uuid& host,
                           const ReleaseCommand& command);

// Whether a state may exist at all: the invariants that records are checked against.
bool consistent(const ReservationState& state);

}  // namespace bb::io::nvme
