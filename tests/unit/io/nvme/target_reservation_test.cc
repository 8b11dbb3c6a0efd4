// SPDX-License-Identifier: Apache-2.0
// Reservations as hosts meet them on a target's queues: conflicts, sharing, order, notifications.
#include "io/nvme/target_reservation.h"

#include <gtest/gtest.h>

#include <map>

#include "io/nvme/reservation_store.h"
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

constexpr NvmeStatus kOk = NvmeStatus::kSuccess;
constexpr NvmeStatus kConflict = final_status(NvmeStatus::kReservationConflict);
constexpr uint32_t kWriteExclusive = 1u << 8;
constexpr uint32_t kExclusiveAccess = 2u << 8;
constexpr uint32_t kRegistrantsOnly = 3u << 8;

// Never called by the state machine: that it is there says that reservations may persist.
class NoStore final : public ReservationStore {
  Task<Result<ReservationState>> load() override { co_return ReservationState(); }
  Task<Status> save(ReservationState) override { co_return Status(); }
};

// One controller of a host, with one I/O queue.
struct Host {
  std::unique_ptr<Link> admin;
  std::unique_ptr<Link> io;
};

class TargetReservationTest : public testing::Test {
 protected:
  TargetReservationTest() : core(TargetLimits{}), memory(pattern(kMemory)) {
    SubsystemConfig config = test::fake_subsystem(kMemory);
    config.namespaces[0].reservation_store = &store;
    EXPECT_TRUE(core.add_subsystem(std::move(config)).ok());
    core.set_save_reservation([this](const NamespaceRef&, const ReservationState& s) {
      saved.push_back(s);
      if (save_at_once) reservation().on_saved(true);
    });
  }

  NamespaceReservation& reservation() {
    return *core.subsystems().begin()->second->find(1)->reservation;
  }

  std::unique_ptr<Link> connect(uint16_t queue_id, uint16_t controller, uint8_t host,
                                const char* nqn = test::kHostNqn, NvmeStatus expected = kOk) {
    auto link = std::make_unique<Link>(core, memory);
    link->init();
    Sqe sqe;
    ConnectCommand{.queue_id = queue_id, .queue_size = 31, .attributes = 0}.encode(sqe);
    ConnectData data{
        .host = {.host_nqn = nqn}, .controller_id = controller, .subsystem_nqn = test::kNqn};
    data.host.host_id.bytes[0] = static_cast<std::byte>(host);
    Buffer bytes(kConnectDataBytes);
    data.encode(bytes);
    link->send(link->wire.capsule(sqe, bytes));
    EXPECT_EQ(link->last().status, expected);
    return link;
  }
  Host host(uint8_t number) {  // 0: without an identifier
    Host made;
    made.admin = connect(0, kControllerIdAny, number);
    EXPECT_EQ(made.admin->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status, kOk);
    made.io = connect(1, made.admin->target.queue.controller()->id(), number);
    return made;
  }

  static Sqe reserve(IoOpcode opcode, uint32_t cdw10, uint16_t id = 9) {
    return {.opcode = static_cast<uint8_t>(opcode),
            .flags = kFlagSgl,
            .command_id = id,
            .nsid = 1,
            .cdw10 = cdw10};
  }
  static Buffer keys(uint64_t first, uint64_t second = 0) {
    Buffer data(16);
    store_le<uint64_t>(data.data(), first);
    store_le<uint64_t>(data.data() + 8, second);
    return data;
  }
  static NvmeStatus enter(Host& who, uint64_t key, uint32_t cdw10 = 0) {
    return who.io->ask(reserve(IoOpcode::kReservationRegister, cdw10), keys(0, key)).status;
  }
  static NvmeStatus acquire(Host& who, uint32_t cdw10, uint64_t key, uint64_t other = 0) {
    return who.io->ask(reserve(IoOpcode::kReservationAcquire, cdw10), keys(key, other)).status;
  }
  static NvmeStatus release(Host& who, uint32_t cdw10, uint64_t key) {
    return who.io->ask(reserve(IoOpcode::kReservationRelease, cdw10), keys(key)).status;
  }
  static NvmeStatus io(Host& who, IoOpcode opcode) {
    bool out = opcode == IoOpcode::kWrite || opcode == IoOpcode::kCompare;
    Sqe sqe = HostWire::io(opcode, 8, 1, opcode == IoOpcode::kRead ? 512 : 0);
    Buffer data = out ? Buffer(512) : Buffer();
    if (opcode == IoOpcode::kCopy) data = Buffer(kCopyRangeBytes);  // block 0
    if (opcode == IoOpcode::kDatasetManagement) {
      data = Buffer(16);
      sqe.cdw10 = 0;
      sqe.cdw11 = kDsmDeallocate;
      store_le<uint32_t>(data.data() + 4, 1);
    }
    return who.io->ask(sqe, data).status;
  }
  // What the host reads of log page 80h: its type.
  static int notification(Host& who) {
    Sqe sqe = HostWire::admin(AdminOpcode::kGetLogPage, 0x80 | (15u << 16), 64);
    EXPECT_EQ(who.admin->ask(sqe).status, kOk);
    return static_cast<int>(who.admin->seen.data.at(8));
  }

  NoStore store;
  TargetCore core;
  Buffer memory;
  std::vector<ReservationState> saved;
  bool save_at_once = true;
};

// Who could come with another's identifier would have its reservations, too.
TEST_F(TargetReservationTest, AnIdentifierInUseIsItsHosts) {
  constexpr const char* kOther = "nqn.2026-11.a:somebody-else";
  constexpr NvmeStatus kInvalidHost = final_status(NvmeStatus::kConnectInvalidHost);
  constexpr uint32_t kPersist = 3u << 30;
  {
    Host own = host(1);
    connect(0, kControllerIdAny, 1, kOther, kInvalidHost);  // while it is connected
    connect(0, kControllerIdAny, 2, kOther);
    ASSERT_EQ(enter(own, 7, kPersist), kOk);
  }
  connect(0, kControllerIdAny, 1, kOther, kInvalidHost);  // and while it is registered
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_EQ(saved[0].registrants[0].owner, host_tag(test::kHostNqn));
  {
    Host own = host(1);
    ASSERT_EQ(own.io->ask(reserve(IoOpcode::kReservationRegister, 1), keys(7)).status, kOk);
  }
  connect(0, kControllerIdAny, 1, kOther);
  connect(0, kControllerIdAny, 0, kOther);  // nobody's identifier is anybody's
  connect(0, kControllerIdAny, 0, test::kHostNqn);
}

// Also by a target that has been away; a record that does not say whose it is takes the first.
TEST_F(TargetReservationTest, AnIdentifierStaysItsHostsThroughARestart) {
  constexpr const char* kOther = "nqn.2026-11.a:somebody-else";
  for (HostTag owner : {host_tag(test::kHostNqn), HostTag{0}}) {
    ReservationState state{.generation = 1, .persistent = true};
    Uuid id;
    id.bytes[0] = std::byte{1};
    state.registrants = {{.host = id, .key = 7, .owner = owner}};
    EXPECT_TRUE(core.remove_subsystem(test::kNqn).ok());
    SubsystemConfig config = test::fake_subsystem(kMemory);
    config.namespaces[0].reservation_store = &store;
    config.namespaces[0].reservation = state;
    ASSERT_TRUE(core.add_subsystem(std::move(config)).ok());
    NvmeStatus expected = owner != 0 ? final_status(NvmeStatus::kConnectInvalidHost) : kOk;
    connect(0, kControllerIdAny, 1, kOther, expected);
    Host own = host(1);
    ASSERT_EQ(acquire(own, kWriteExclusive, 7), kOk);
    EXPECT_EQ(reservation().state().registrants[0].owner, host_tag(test::kHostNqn));
  }
}

// Every command of the device, in front of every type; the matrix itself is the state machine's.
TEST_F(TargetReservationTest, EveryCommandIsChecked) {
  Host holder = host(1), registrant = host(2), other = host(3);
  ASSERT_EQ(enter(holder, 1), kOk);
  ASSERT_EQ(enter(registrant, 2), kOk);
  constexpr IoOpcode kReads[] = {IoOpcode::kRead, IoOpcode::kCompare, IoOpcode::kVerify};
  constexpr IoOpcode kWrites[] = {IoOpcode::kWrite, IoOpcode::kWriteZeroes, IoOpcode::kFlush,
                                  IoOpcode::kDatasetManagement, IoOpcode::kCopy};
  for (uint32_t type = 1; type <= 6; ++type) {
    ASSERT_EQ(acquire(holder, type << 8, 1), kOk) << type;
    ReservationState state = reservation().state();
    for (Host* who : {&holder, &registrant, &other}) {
      const Uuid& id = who->io->target.queue.controller()->host().host_id;
      for (IoOpcode opcode : kWrites) {
        EXPECT_EQ(io(*who, opcode), check_access(state, id, AccessKind::kWrite)) << type;
      }
      for (IoOpcode opcode : kReads) {
        NvmeStatus status = io(*who, opcode);
        if (status == final_status(NvmeStatus::kCompareFailure)) status = kOk;
        EXPECT_EQ(status, check_access(state, id, AccessKind::kRead)) << type;
      }
    }
    ASSERT_EQ(release(holder, type << 8, 1), kOk);
  }
  EXPECT_EQ(io(other, IoOpcode::kWrite), kOk);
  // A flush of all namespaces is one of this, too; an empty deallocation is still a write.
  ASSERT_EQ(acquire(holder, kExclusiveAccess, 1), kOk);
  Sqe all = HostWire::io(IoOpcode::kFlush, 0, 1, 0);
  all.nsid = kNsidAll;
  EXPECT_EQ(other.io->ask(all).status, kConflict);
  Sqe hint = HostWire::io(IoOpcode::kDatasetManagement, 0, 1, 0);
  EXPECT_EQ(other.io->ask(hint, Buffer(16)).status, kConflict);
}

// Each half is checked as what it is, and neither does anything without the other.
TEST_F(TargetReservationTest, CompareAndWriteIsReadAndWritten) {
  Host holder = host(1), other = host(2);
  ASSERT_EQ(enter(holder, 1), kOk);
  const NvmeStatus failed = final_status(NvmeStatus::kFailedFused);
  auto pair = [&](Host& who) {
    Sqe compare = HostWire::io(IoOpcode::kCompare, 8, 1, 0, 1);
    Sqe write = HostWire::io(IoOpcode::kWrite, 8, 1, 0, 2);
    compare.flags |= kFlagFuseFirst;
    write.flags |= kFlagFuseSecond;
    who.io->seen.responses.clear();
    who.io->send(who.io->wire.capsule(compare, ConstBytes(memory).subspan(8 * 512, 512)));
    who.io->send(who.io->wire.capsule(write, pattern(512, 3)));
    std::map<uint16_t, NvmeStatus> answers;
    for (const Cqe& one : who.io->seen.responses) answers[one.command_id] = one.status;
    return answers;
  };
  const Buffer before = memory;
  ASSERT_EQ(acquire(holder, kWriteExclusive, 1), kOk);
  EXPECT_EQ(pair(other), (std::map<uint16_t, NvmeStatus>{{1, failed}, {2, kConflict}}));
  ASSERT_EQ(release(holder, kWriteExclusive, 1), kOk);
  ASSERT_EQ(acquire(holder, kExclusiveAccess, 1), kOk);
  EXPECT_EQ(pair(other), (std::map<uint16_t, NvmeStatus>{{1, kConflict}, {2, failed}}));
  EXPECT_EQ(memory, before);
  EXPECT_EQ(pair(holder), (std::map<uint16_t, NvmeStatus>{{1, kOk}, {2, kOk}}));
  EXPECT_TRUE(core.subsystems().begin()->second->find(1)->writes.idle());
}

TEST_F(TargetReservationTest, AHostsControllersShareItsRegistration) {
  Host one = host(1), another = host(1), stranger = host(2);
  ASSERT_EQ(enter(one, 7), kOk);
  ASSERT_EQ(acquire(another, kExclusiveAccess, 7), kOk);
  EXPECT_EQ(io(one, IoOpcode::kWrite), kOk);
  EXPECT_EQ(io(another, IoOpcode::kWrite), kOk);
  EXPECT_EQ(io(stranger, IoOpcode::kRead), kConflict);
  one = {};  // the registration is the host's, not a controller's
  another = {};
  EXPECT_EQ(io(stranger, IoOpcode::kRead), kConflict);
  Host back = host(1);
  EXPECT_EQ(release(back, kExclusiveAccess, 7), kOk);
  EXPECT_EQ(io(stranger, IoOpcode::kRead), kOk);
}

TEST_F(TargetReservationTest, Report) {
  Host one = host(1);
  ASSERT_EQ(enter(one, 0x77), kOk);
  ASSERT_EQ(acquire(one, kWriteExclusive, 0x77), kOk);
  Sqe sqe = reserve(IoOpcode::kReservationReport, 127 / 4);
  sqe.sgl = transport_sgl(128);
  EXPECT_EQ(one.io->ask(sqe).status, final_status(NvmeStatus::kHostIdInconsistent));
  sqe.cdw11 = 1;
  ASSERT_EQ(one.io->ask(sqe).status, kOk);
  EXPECT_EQ(one.io->seen.data, encode_report(reservation().state(), true));
  sqe.cdw10 = 3;  // the head alone
  sqe.sgl = transport_sgl(16);
  ASSERT_EQ(one.io->ask(sqe).status, kOk);
  EXPECT_EQ(hex(one.io->seen.data), "01 00 00 00 01 01 00 00 00 00 00 00 00 00 00 00");
  sqe.sgl = transport_sgl(32);
  EXPECT_EQ(one.io->ask(sqe).status, final_status(NvmeStatus::kSglDataLengthInvalid));
}

TEST_F(TargetReservationTest, RefusesWhatIsWrong) {
  Host one = host(1), nobody = host(0);
  EXPECT_EQ(enter(nobody, 1), final_status(NvmeStatus::kCommandSequenceError));
  EXPECT_EQ(one.io->ask(reserve(IoOpcode::kReservationRegister, 0), Buffer(8)).status,
            final_status(NvmeStatus::kSglDataLengthInvalid));
  EXPECT_EQ(enter(one, 1, 7), final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(acquire(one, 7u << 8, 1), final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(release(one, 8, 1), final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(one.io->ask(reserve(IoOpcode::kReservationRelease, 0), Buffer(8)).status, kConflict);
}

TEST_F(TargetReservationTest, DurableBeforeItIsInForceAndAnswered) {
  Host one = host(1), other = host(2);
  constexpr uint32_t kPersist = 3u << 30;
  ASSERT_EQ(enter(one, 1, kPersist), kOk);
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_TRUE(saved[0].persistent);
  save_at_once = false;
  size_t before = one.io->seen.responses.size();
  one.io->send(
      one.io->wire.capsule(reserve(IoOpcode::kReservationAcquire, kExclusiveAccess), keys(1)));
  EXPECT_EQ(one.io->seen.responses.size(), before);
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[1].type, ReservationType::kExclusiveAccess);
  EXPECT_EQ(io(other, IoOpcode::kWrite), kOk);  // not in force yet
  // The next command waits its turn.
  other.io->send(other.io->wire.capsule(reserve(IoOpcode::kReservationRegister, 0), keys(0, 2)));
  EXPECT_EQ(saved.size(), 2u);
  reservation().on_saved(true);
  one.io->seen.feed(one.io->target.run());
  ASSERT_EQ(one.io->seen.responses.size(), before + 1);
  EXPECT_EQ(one.io->last().status, kOk);
  EXPECT_EQ(io(other, IoOpcode::kWrite), kConflict);
  ASSERT_EQ(saved.size(), 3u);
  reservation().on_saved(false);  // not durable: it did not happen
  other.io->seen.feed(other.io->target.run());
  EXPECT_EQ(other.io->last().status, NvmeStatus::kInternalError);
  EXPECT_EQ(reservation().state().registrants.size(), 1u);
}

TEST_F(TargetReservationTest, AConnectionThatEndsWhileItsCommandIsSaved) {
  Host one = host(1), other = host(2);
  ASSERT_EQ(enter(one, 1, 3u << 30), kOk);
  save_at_once = false;
  one.io->send(
      one.io->wire.capsule(reserve(IoOpcode::kReservationAcquire, kExclusiveAccess, 20), keys(1)));
  one.io->send(
      one.io->wire.capsule(reserve(IoOpcode::kReservationRelease, kExclusiveAccess, 21), keys(1)));
  one = {};
  reservation().on_saved(true);  // takes effect, answered to nobody; the one behind it never began
  EXPECT_EQ(io(other, IoOpcode::kWrite), kConflict);
  EXPECT_EQ(saved.size(), 2u);
}

TEST_F(TargetReservationTest, CapabilitiesFollowTheStore) {
  Host one = host(1);
  Sqe identify = HostWire::admin(AdminOpcode::kIdentify, 0, kIdentifyBytes, 1);
  ASSERT_EQ(one.admin->ask(identify).status, kOk);
  EXPECT_EQ(one.admin->seen.data.at(31), std::byte{0xff});
  identify.cdw10 = 1;
  ASSERT_EQ(one.admin->ask(identify).status, kOk);
  EXPECT_NE(load_le<uint16_t>(&one.admin->seen.data.at(520)) & kOncsReservations, 0);
}

TEST_F(TargetReservationTest, Features) {
  Host one = host(1), other = host(2);
  auto set = [&](FeatureId feature, uint32_t value, uint32_t nsid = 1) {
    Sqe sqe = HostWire::admin(AdminOpcode::kSetFeatures, static_cast<uint32_t>(feature), 0, nsid);
    sqe.sgl = {};
    sqe.sgl.type = kSglTransportData;
    sqe.cdw11 = value;
    return one.admin->ask(sqe).status;
  };
  auto get = [&](FeatureId feature) {
    Sqe sqe = HostWire::admin(AdminOpcode::kGetFeatures, static_cast<uint32_t>(feature), 0, 1);
    return other.admin->ask(sqe).result;
  };
  EXPECT_EQ(set(FeatureId::kReservationMask, 0x04), kOk);
  EXPECT_EQ(get(FeatureId::kReservationMask), 0x04u);
  EXPECT_EQ(set(FeatureId::kReservationMask, 1), final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(set(FeatureId::kReservationMask, 2, 2), final_status(NvmeStatus::kInvalidNamespace));
  EXPECT_EQ(get(FeatureId::kReservationPersistence), 0u);
  EXPECT_EQ(set(FeatureId::kReservationPersistence, 1), kOk);
  EXPECT_EQ(get(FeatureId::kReservationPersistence), 1u);
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_EQ(set(FeatureId::kReservationPersistence, 0, kNsidAll), kOk);
  ASSERT_EQ(saved.size(), 2u);  // so that the older record no longer counts
  EXPECT_FALSE(saved[1].persistent);
  EXPECT_EQ(set(FeatureId::kReservationPersistence, 0, 5),
            final_status(NvmeStatus::kInvalidNamespace));
}

TEST_F(TargetReservationTest, NotificationsReachEveryControllerOfTheHost) {
  Host holder = host(1), one = host(2), same = host(2);
  ASSERT_EQ(enter(holder, 1), kOk);
  ASSERT_EQ(enter(one, 2), kOk);
  Sqe event = HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0);
  event.sgl = {};
  one.admin->send(one.admin->wire.capsule(event));
  size_t before = one.admin->seen.responses.size();
  ASSERT_EQ(acquire(holder, kRegistrantsOnly, 1), kOk);
  ASSERT_EQ(release(holder, kRegistrantsOnly, 1), kOk);
  one.admin->seen.feed(one.admin->target.run());
  ASSERT_EQ(one.admin->seen.responses.size(), before + 1);
  EXPECT_EQ(one.admin->last().result, kEventReservationLog);
  ASSERT_EQ(release(holder, 1, 1), kOk);  // clear
  EXPECT_EQ(notification(one), 2);
  EXPECT_EQ(notification(one), 3);
  EXPECT_EQ(notification(one), 0);
  EXPECT_EQ(notification(same), 2);
  EXPECT_EQ(notification(holder), 0);
  reservation().notification_mask = 1u << 2;
  ASSERT_EQ(enter(holder, 1), kOk);
  ASSERT_EQ(enter(one, 2), kOk);
  ASSERT_EQ(acquire(holder, kRegistrantsOnly, 1), kOk);
  ASSERT_EQ(release(holder, kRegistrantsOnly, 1), kOk);
  EXPECT_EQ(notification(one), 0);
}

TEST_F(TargetReservationTest, TheLogKeepsTheOldest) {
  ReservationLog log;
  for (int i = 0; i < 300; ++i) log.add(1, NotificationType::kReservationReleased);
  LogData page = log.take();
  EXPECT_EQ(page[0], std::byte{1});
  EXPECT_EQ(page[9], std::byte{254});
  for (int i = 0; i < 254; ++i) page = log.take();
  EXPECT_EQ(page[0], std::byte{255});
  EXPECT_TRUE(all_zero(log.take()));
  log.add(1, NotificationType::kReservationReleased);
  EXPECT_EQ(load_le<uint64_t>(log.take().data()), 301u);  // the lost ones are counted
}

class PreemptTest : public TargetReservationTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(enter(winner, 1), kOk);
    ASSERT_EQ(enter(loser, 2), kOk);
    ASSERT_EQ(acquire(loser, kWriteExclusive, 2), kOk);
  }
  // The loser's write is with the device: its slot.
  uint16_t write_at_device(uint16_t id = 50) {
    loser.io->target.held = true;
    loser.io->send(
        loser.io->wire.capsule(HostWire::io(IoOpcode::kWrite, 8, 1, 0, id), Buffer(512)));
    auto slot = loser.io->target.queue.next_io();
    EXPECT_TRUE(slot.has_value());
    return slot.value_or(0);
  }
  void preempt(AcquireAction action) {
    winner.io->send(winner.io->wire.capsule(
        reserve(IoOpcode::kReservationAcquire, static_cast<uint32_t>(action) | kWriteExclusive, 60),
        keys(1, 2)));
  }
  bool answered() {
    winner.io->seen.feed(winner.io->target.run());
    return winner.io->last().command_id == 60;
  }

  Host winner = host(1);
  Host loser = host(2);
};

TEST_F(PreemptTest, AndAbortWaitsForWhatIsWithTheDevice) {
  uint16_t slot = write_at_device();
  preempt(AcquireAction::kPreemptAndAbort);
  EXPECT_FALSE(answered());
  EXPECT_EQ(io(winner, IoOpcode::kWrite), kOk);  // in force already, and answers to others go on
  loser.io->target.queue.on_io_done(slot, Code::k_ok);
  EXPECT_TRUE(answered());
  EXPECT_EQ(winner.io->last().status, kOk);
  loser.io->target.held = false;
  loser.io->seen.feed(loser.io->target.run());
  EXPECT_EQ(loser.io->last().status, kOk);  // it was done, and before the answer
  EXPECT_EQ(io(loser, IoOpcode::kWrite), kConflict);
  EXPECT_EQ(notification(loser), 1);
}

TEST_F(PreemptTest, AndAbortWaitsForAConnectionThatIsGone) {
  uint16_t slot = write_at_device();
  loser.io->target.queue.close("cut");
  preempt(AcquireAction::kPreemptAndAbort);
  EXPECT_FALSE(answered());
  loser.io->target.queue.on_io_done(slot, Code::k_ok);
  EXPECT_TRUE(answered());
}

TEST_F(PreemptTest, AndAbortWaitsForAConnectionThatGoesMeanwhile) {
  uint16_t slot = write_at_device();
  preempt(AcquireAction::kPreemptAndAbort);
  EXPECT_FALSE(answered());
  loser.io->target.queue.close("cut");
  EXPECT_FALSE(answered());
  loser.io->target.queue.on_io_done(slot, Code::k_ok);
  EXPECT_TRUE(answered());
}

TEST_F(PreemptTest, WithoutAbortDoesNotWait) {
  uint16_t slot = write_at_device();
  preempt(AcquireAction::kPreempt);
  EXPECT_TRUE(answered());
  loser.io->target.queue.on_io_done(slot, Code::k_ok);
}

// What the device does not have yet never gets there: neither what waits in line nor what is still
// being received, whatever the new reservation would allow.
TEST_F(PreemptTest, NothingOfThePreemptedBegins) {
  for (bool abort : {false, true}) {
    loser.io->target.held = true;
    loser.io->send(
        loser.io->wire.capsule(HostWire::io(IoOpcode::kWrite, 8, 1, 0, 51), Buffer(512)));
    loser.io->send(loser.io->wire.capsule(HostWire::io(IoOpcode::kWrite, 8, 32, 16384, 52)));
    ASSERT_EQ(loser.io->seen.r2ts.size(), 1u);
    R2t r2t = loser.io->seen.r2ts.back();
    loser.io->seen.r2ts.clear();
    preempt(abort ? AcquireAction::kPreemptAndAbort : AcquireAction::kPreempt);
    EXPECT_TRUE(answered());
    if (abort) {
      ASSERT_EQ(release(winner, kWriteExclusive, 1), kOk);  // anybody may write again
    }
    loser.io->seen.feed(loser.io->target.run());
    NvmeStatus expected = abort ? final_status(NvmeStatus::kAbortedByPreempt) : kConflict;
    EXPECT_EQ(loser.io->last().command_id, 51);
    EXPECT_EQ(loser.io->last().status, kConflict);
    loser.io->send(loser.io->wire.h2c(
        {.command_id = 52, .transfer_tag = r2t.transfer_tag, .last = true}, Buffer(16384)));
    EXPECT_EQ(loser.io->last().command_id, 52);
    EXPECT_EQ(loser.io->last().status, expected);
    EXPECT_FALSE(loser.io->target.queue.next_io().has_value());
    loser.io->target.held = false;
    if (abort) break;
    ASSERT_EQ(release(winner, kWriteExclusive, 1), kOk);
    ASSERT_EQ(enter(loser, 2), kOk);
    ASSERT_EQ(acquire(loser, kWriteExclusive, 2), kOk);
  }
}

}  // namespace
}  // namespace bb::io::nvme
