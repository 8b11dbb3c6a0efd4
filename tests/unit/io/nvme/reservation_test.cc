// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/reservation.h"

#include <gtest/gtest.h>

namespace bb::io::nvme {
namespace {

using enum ReservationType;
using enum NotificationType;

constexpr NvmeStatus kOk = NvmeStatus::kSuccess;
constexpr NvmeStatus kRefused = final_status(NvmeStatus::kReservationConflict);
constexpr NvmeStatus kWrong = final_status(NvmeStatus::kInvalidField);

Uuid host(int number) {
  Uuid uuid;
  uuid.bytes[0] = static_cast<std::byte>(number);
  return uuid;
}
const Uuid kA = host(1);
const Uuid kB = host(2);
const Uuid kC = host(3);
const Uuid kOther = host(9);

// A, B and C registered with 0xa, 0xb, 0xc; A holds a reservation of `type`.
ReservationState held(ReservationType type) {
  ReservationState state;
  state.registrants = {{kA, 0xa}, {kB, 0xb}, {kC, 0xc}};
  state.type = type;
  if (type != kNone && !held_by_all(type)) state.holder = kA;
  EXPECT_TRUE(consistent(state));
  return state;
}

ReservationOutcome preempt(const ReservationState& state, const Uuid& by, uint64_t own,
                           uint64_t key, ReservationType type) {
  return reserve(
      state, by,
      AcquireCommand{
          .action = AcquireAction::kPreempt, .type = type, .current_key = own, .preempt_key = key});
}

using Notices = std::vector<ReservationNotice>;

// The figure "Command Behavior in the Presence of a Reservation", cell by cell: a holder, a
// registrant and anybody else, reading and writing.
TEST(Reservation, ConflictTable) {
  struct Row {
    ReservationType type;
    const char* holder;  // reads, writes: A(llowed) or C(onflict)
    const char* registrant;
    const char* other;
  };
  for (const Row& row :
       {Row{kNone, "AA", "AA", "AA"}, Row{kWriteExclusive, "AA", "AC", "AC"},
        Row{kExclusiveAccess, "AA", "CC", "CC"}, Row{kWriteExclusiveRegistrants, "AA", "AA", "AC"},
        Row{kExclusiveAccessRegistrants, "AA", "AA", "CC"},
        Row{kWriteExclusiveAll, "AA", "AA", "AC"}, Row{kExclusiveAccessAll, "AA", "AA", "CC"}}) {
    ReservationState state = held(row.type);
    struct Column {
      Uuid who;
      const char* want;
    };
    for (const Column& column : {Column{kA, row.holder}, Column{kB, row.registrant},
                                 Column{kOther, row.other}, Column{Uuid{}, row.other}}) {
      SCOPED_TRACE(testing::Message() << "type " << static_cast<int>(row.type) << " host "
                                      << static_cast<int>(column.who.bytes[0]));
      EXPECT_EQ(check_access(state, column.who, AccessKind::kRead),
                column.want[0] == 'A' ? kOk : kRefused);
      EXPECT_EQ(check_access(state, column.who, AccessKind::kWrite),
                column.want[1] == 'A' ? kOk : kRefused);
    }
  }
}

using enum RegisterAction;
constexpr bool kIgnoreKey = true;

RegisterCommand enter(uint64_t key, bool ignore = false) {
  return {.action = kRegister, .ignore_key = ignore, .new_key = key};
}
RegisterCommand replace(uint64_t key, uint64_t by, bool ignore = false) {
  return {.action = kReplace, .ignore_key = ignore, .current_key = key, .new_key = by};
}
RegisterCommand leave(uint64_t key, bool ignore = false) {
  return {.action = kUnregister, .ignore_key = ignore, .current_key = key};
}

TEST(Reservation, Register) {
  struct Case {
    const char* what;
    RegisterCommand command;
    Uuid who;
    NvmeStatus status;
    uint64_t key;  // afterwards; 0: not registered
  };
  constexpr NvmeStatus kSequence = final_status(NvmeStatus::kCommandSequenceError);
  for (const Case& one :
       {Case{"first", enter(7), kOther, kOk, 7}, Case{"again the same", enter(0xb), kB, kOk, 0xb},
        Case{"again another", enter(7), kB, kRefused, 0xb},
        Case{"another's key", enter(0xb), kOther, kOk, 0xb},
        Case{"key 0", enter(0), kOther, kWrong, 0},
        Case{"again another, key ignored", enter(7, kIgnoreKey), kB, kRefused, 0xb},
        Case{"replace", replace(0xb, 7), kB, kOk, 7},
        Case{"replace, wrong key", replace(1, 7), kB, kRefused, 0xb},
        Case{"replace, key ignored", replace(1, 7, kIgnoreKey), kB, kOk, 7},
        Case{"replace by a stranger", replace(0xb, 7), kOther, kRefused, 0},
        Case{"replace by a stranger, key ignored", replace(1, 7, kIgnoreKey), kOther, kOk, 7},
        Case{"replace by 0", replace(0xb, 0), kB, kWrong, 0xb},
        Case{"unregister", leave(0xb), kB, kOk, 0},
        Case{"unregister, wrong key", leave(1), kB, kRefused, 0xb},
        Case{"unregister, key ignored", leave(1, kIgnoreKey), kB, kOk, 0},
        Case{"unregister a stranger", leave(1, kIgnoreKey), kOther, kRefused, 0},
        Case{"nobody", enter(7), Uuid{}, kSequence, 0}}) {
    SCOPED_TRACE(one.what);
    ReservationState state = held(kWriteExclusive);
    ReservationOutcome outcome = reserve(state, one.who, one.command, false);
    EXPECT_EQ(outcome.status, one.status);
    if (outcome.status == kOk) {
      EXPECT_EQ(outcome.next.generation, state.generation + 1);
      state = outcome.next;
    }
    EXPECT_TRUE(consistent(state));
    const Registrant* found = state.find(one.who);
    EXPECT_EQ(found == nullptr ? 0 : found->key, one.key);
    EXPECT_EQ(state.type, kWriteExclusive);  // A's, and none of these is A
    EXPECT_TRUE(outcome.notices.empty());
  }
}

TEST(Reservation, UnregisteringTheHolderEndsWhatItAloneHolds) {
  struct Case {
    ReservationType type;
    bool ends;
    bool told;
  };
  for (const Case& one :
       {Case{kWriteExclusive, true, false}, Case{kExclusiveAccess, true, false},
        Case{kWriteExclusiveRegistrants, true, true}, Case{kExclusiveAccessRegistrants, true, true},
        Case{kWriteExclusiveAll, false, false}, Case{kExclusiveAccessAll, false, false}}) {
    SCOPED_TRACE(static_cast<int>(one.type));
    ReservationState state = held(one.type);
    ReservationOutcome outcome = reserve(state, kA, leave(0xa), false);
    ASSERT_EQ(outcome.status, kOk);
    EXPECT_EQ(outcome.next.type, one.ends ? kNone : one.type);
    Notices told = {{kB, kReservationReleased}, {kC, kReservationReleased}};
    EXPECT_EQ(outcome.notices, one.told ? told : Notices());
  }
  ReservationState state = held(kExclusiveAccessAll);
  for (const Registrant& one : held(kNone).registrants) {
    state = reserve(state, one.host, leave(one.key), false).next;
    EXPECT_TRUE(consistent(state));
  }
  EXPECT_EQ(state.type, kNone);  // the last took it along
}

TEST(Reservation, NoMoreRegistrantsThanTheLimit) {
  ReservationState state;
  for (size_t i = 0; i <= kRegistrantsMax; ++i) {
    Uuid who = host(static_cast<int>(i % 200) + 1);
    who.bytes[1] = static_cast<std::byte>(i / 200);
    ReservationOutcome outcome = reserve(state, who, RegisterCommand{.new_key = i + 1}, false);
    ASSERT_EQ(outcome.status, i < kRegistrantsMax ? kOk : final_status(NvmeStatus::kInternalError));
    if (outcome.status == kOk) state = outcome.next;
    RegisterCommand again{.new_key = 1};  // who is there already needs no room
    EXPECT_EQ(reserve(state, host(1), again, false).status, kOk);
  }
  EXPECT_TRUE(consistent(state));
}

TEST(Reservation, PersistenceFollowsTheCommand) {
  RegisterCommand on{.persist = PersistChange::kOn, .new_key = 7};
  EXPECT_EQ(reserve({}, kA, on, false).status, kWrong);
  ReservationState state = reserve({}, kA, on, true).next;
  EXPECT_TRUE(state.persistent);
  EXPECT_TRUE(reserve(state, kB, RegisterCommand{.new_key = 8}, true).next.persistent);
  RegisterCommand off{.persist = PersistChange::kOff, .new_key = 7};
  EXPECT_FALSE(reserve(state, kA, off, true).next.persistent);
  EXPECT_EQ(reserve({}, kA, off, false).status, kOk);
}

TEST(Reservation, Acquire) {
  struct Case {
    const char* what;
    ReservationType before;
    Uuid who;
    uint64_t key;
    ReservationType type;
    NvmeStatus status;
  };
  for (const Case& one :
       {Case{"free", kNone, kB, 0xb, kExclusiveAccess, kOk},
        Case{"free, all", kNone, kB, 0xb, kExclusiveAccessAll, kOk},
        Case{"wrong key", kNone, kB, 1, kExclusiveAccess, kRefused},
        Case{"a stranger", kNone, kOther, 1, kExclusiveAccess, kRefused},
        Case{"no type", kNone, kB, 0xb, kNone, kWrong},
        Case{"the holder again", kWriteExclusive, kA, 0xa, kWriteExclusive, kOk},
        Case{"the holder, otherwise", kWriteExclusive, kA, 0xa, kExclusiveAccess, kRefused},
        Case{"another holds it", kWriteExclusive, kB, 0xb, kWriteExclusive, kRefused},
        Case{"registrants only", kWriteExclusiveRegistrants, kB, 0xb, kWriteExclusiveRegistrants,
             kRefused},
        Case{"all hold it", kWriteExclusiveAll, kB, 0xb, kWriteExclusiveAll, kOk},
        Case{"all hold it, otherwise", kWriteExclusiveAll, kB, 0xb, kExclusiveAccessAll,
             kRefused}}) {
    SCOPED_TRACE(one.what);
    ReservationState state = held(one.before);
    AcquireCommand command{.type = one.type, .current_key = one.key};
    ReservationOutcome outcome = reserve(state, one.who, command);
    EXPECT_EQ(outcome.status, one.status);
    if (one.status != kOk) continue;
    EXPECT_EQ(outcome.next.type, one.type);
    EXPECT_TRUE(outcome.next.holds(one.who));
    EXPECT_EQ(outcome.next.generation, state.generation);  // an acquire does not count
    EXPECT_TRUE(outcome.notices.empty());
  }
}

TEST(Reservation, PreemptTakesTheHoldersPlace) {
  ReservationOutcome outcome = preempt(held(kWriteExclusive), kB, 0xb, 0xa, kWriteExclusive);
  ASSERT_EQ(outcome.status, kOk);
  EXPECT_EQ(outcome.next.holder, kB);
  EXPECT_EQ(outcome.next.find(kA), nullptr);
  EXPECT_NE(outcome.next.find(kC), nullptr);
  EXPECT_EQ(outcome.next.generation, 1u);
  EXPECT_EQ(outcome.preempted, std::vector<Uuid>{kA});
  EXPECT_EQ(outcome.notices, (Notices{{kA, kRegistrationPreempted}}));
  EXPECT_FALSE(outcome.abort);
  // Another type: those who stay are told, too.
  outcome = preempt(held(kWriteExclusive), kB, 0xb, 0xa, kExclusiveAccess);
  EXPECT_EQ(outcome.notices, (Notices{{kA, kRegistrationPreempted}, {kC, kReservationReleased}}));
  // Itself, to change the type: the registration stays.
  outcome = preempt(held(kWriteExclusive), kA, 0xa, 0xa, kExclusiveAccess);
  ASSERT_EQ(outcome.status, kOk);
  EXPECT_EQ(outcome.next.holder, kA);
  EXPECT_EQ(outcome.next.type, kExclusiveAccess);
  EXPECT_TRUE(outcome.preempted.empty());
  // One that has the holder's key itself stays registered.
  ReservationState alike = held(kWriteExclusive);
  alike.registrants[1].key = 0xa;
  outcome = preempt(alike, kB, 0xa, 0xa, kWriteExclusive);
  EXPECT_EQ(outcome.next.holder, kB);
  EXPECT_EQ(outcome.next.registrants.size(), 2u);
}

TEST(Reservation, PreemptOfOthersUnregistersThem) {
  for (ReservationType type :
       {kNone, kWriteExclusive, kExclusiveAccessRegistrants, kWriteExclusiveAll}) {
    SCOPED_TRACE(static_cast<int>(type));
    ReservationOutcome outcome = preempt(held(type), kB, 0xb, 0xc, kExclusiveAccess);
    ASSERT_EQ(outcome.status, kOk);
    EXPECT_EQ(outcome.next.type, type);  // stays what and whose it is
    EXPECT_EQ(outcome.next.find(kC), nullptr);
    EXPECT_EQ(outcome.notices, (Notices{{kC, kRegistrationPreempted}}));
    EXPECT_EQ(preempt(held(type), kB, 0xb, 0xdead, kWriteExclusive).status, kRefused);
    EXPECT_EQ(preempt(held(type), kB, 1, 0xc, kWriteExclusive).status, kRefused);
    EXPECT_EQ(preempt(held(type), kOther, 1, 0xc, kWriteExclusive).status, kRefused);
    if (type == kWriteExclusiveAll) continue;
    EXPECT_EQ(preempt(held(type), kB, 0xb, 0, kWriteExclusive).status, kWrong);
  }
  // Its own registration, by its own key, while another holds the reservation.
  ReservationOutcome outcome = preempt(held(kWriteExclusive), kB, 0xb, 0xb, kWriteExclusive);
  ASSERT_EQ(outcome.status, kOk);
  EXPECT_EQ(outcome.next.find(kB), nullptr);
  EXPECT_EQ(outcome.next.holder, kA);
  EXPECT_TRUE(outcome.notices.empty());
}

TEST(Reservation, PreemptOfAllByKeyZero) {
  AcquireCommand command{
      .action = AcquireAction::kPreemptAndAbort, .type = kWriteExclusive, .current_key = 0xb};
  ReservationOutcome outcome = reserve(held(kWriteExclusiveAll), kB, command);
  ASSERT_EQ(outcome.status, kOk);
  EXPECT_TRUE(outcome.abort);
  EXPECT_EQ(outcome.next.holder, kB);
  EXPECT_EQ(outcome.next.type, kWriteExclusive);
  EXPECT_EQ(outcome.next.registrants.size(), 1u);
  EXPECT_EQ(outcome.preempted, (std::vector<Uuid>{kA, kC}));
  EXPECT_EQ(outcome.notices, (Notices{{kA, kRegistrationPreempted}, {kC, kRegistrationPreempted}}));
}

TEST(Reservation, Release) {
  struct Case {
    const char* what;
    ReservationType before;
    Uuid who;
    uint64_t key;
    ReservationType type;
    NvmeStatus status;
    bool ends;
    bool told;
  };
  for (const Case& one :
       {Case{"the holder", kWriteExclusive, kA, 0xa, kWriteExclusive, kOk, true, false},
        Case{"exclusive access", kExclusiveAccess, kA, 0xa, kExclusiveAccess, kOk, true, false},
        Case{"registrants", kWriteExclusiveRegistrants, kA, 0xa, kWriteExclusiveRegistrants, kOk,
             true, true},
        Case{"access of registrants", kExclusiveAccessRegistrants, kA, 0xa,
             kExclusiveAccessRegistrants, kOk, true, true},
        Case{"any of all", kWriteExclusiveAll, kA, 0xa, kWriteExclusiveAll, kOk, true, true},
        Case{"any of all, access", kExclusiveAccessAll, kA, 0xa, kExclusiveAccessAll, kOk, true,
             true},
        Case{"another type", kWriteExclusive, kA, 0xa, kExclusiveAccess, kWrong, false, false},
        Case{"no type", kWriteExclusive, kA, 0xa, kNone, kWrong, false, false},
        Case{"not the holder", kWriteExclusive, kB, 0xb, kWriteExclusive, kOk, false, false},
        Case{"nothing to release", kNone, kA, 0xa, kWriteExclusive, kOk, false, false},
        Case{"wrong key", kWriteExclusive, kA, 1, kWriteExclusive, kRefused, false, false},
        Case{"a stranger", kWriteExclusive, kOther, 0xa, kWriteExclusive, kRefused, false,
             false}}) {
    SCOPED_TRACE(one.what);
    ReservationState state = held(one.before);
    ReleaseCommand command{.type = one.type, .current_key = one.key};
    ReservationOutcome outcome = reserve(state, one.who, command);
    EXPECT_EQ(outcome.status, one.status);
    if (one.status != kOk) continue;
    EXPECT_EQ(outcome.next.type, one.ends ? kNone : one.before);
    EXPECT_EQ(outcome.next.registrants, state.registrants);
    EXPECT_EQ(outcome.next.generation, state.generation);
    Notices told = {{kB, kReservationReleased}, {kC, kReservationReleased}};
    EXPECT_EQ(outcome.notices, one.told ? told : Notices());
  }
}

TEST(Reservation, ClearEndsEverything) {
  for (int type = 0; type <= kReservationTypeMax; ++type) {
    ReservationState state = held(static_cast<ReservationType>(type));
    state.persistent = true;
    ReleaseCommand command{.action = ReleaseAction::kClear, .current_key = 0xb};
    ReservationOutcome outcome = reserve(state, kB, command);
    ASSERT_EQ(outcome.status, kOk);
    EXPECT_EQ(outcome.next, (ReservationState{.generation = 1, .persistent = true}));
    EXPECT_EQ(outcome.notices, (Notices{{kA, kReservationPreempted}, {kC, kReservationPreempted}}));
    command.current_key = 1;
    EXPECT_EQ(reserve(state, kB, command).status, kRefused);
  }
}

}  // namespace
}  // namespace bb::io::nvme
