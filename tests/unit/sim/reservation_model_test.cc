// SPDX-License-Identifier: Apache-2.0
// The state machine of reservations against the model that was written from the specification.
#include "sim/reservation_model.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "io/nvme/reservation_codec.h"

namespace bb::sim {
namespace {

using namespace io::nvme;  // NOLINT: a test of these

constexpr int kHosts = 5;
constexpr int kSteps = 400'000;

// Out of order, so that the order of identifiers is not that of the numbers.
Uuid uuid_of(int host) {
  Uuid uuid;
  if (host == 0) return uuid;
  uuid.bytes[0] = static_cast<std::byte>(host * 97 % 251);
  uuid.bytes[15] = static_cast<std::byte>(host);
  return uuid;
}
int host_of(const Uuid& uuid) { return static_cast<int>(uuid.bytes[15]); }

int status_of(NvmeStatus status) { return static_cast<int>(plain_status(status)); }

// Both sides get the same bytes.
struct Command {
  int kind = 0;  // register, acquire, release
  int host = 0;
  uint32_t cdw10 = 0;
  uint64_t first_key = 0;
  uint64_t second_key = 0;
};

ReservationOutcome refused(NvmeStatus status) {
  ReservationOutcome outcome;
  outcome.status = status;
  return outcome;
}

template <typename Decoded, typename... More>
ReservationOutcome carry_out(const ReservationState& state, int host,
                             const std::optional<Decoded>& command, More... more) {
  if (!command) return refused(NvmeStatus::kInvalidField);
  return reserve(state, uuid_of(host), *command, more...);
}

ReservationOutcome core_does(const ReservationState& state, const Command& command, bool persist) {
  std::byte data[16];
  store_le<uint64_t>(data, command.first_key);
  store_le<uint64_t>(data + 8, command.second_key);
  Sqe sqe{.cdw10 = command.cdw10};
  if (command.kind == 0) return carry_out(state, command.host, decode_register(sqe, data), persist);
  if (command.kind == 1) return carry_out(state, command.host, decode_acquire(sqe, data));
  return carry_out(state, command.host, decode_release(sqe, data));
}

ReservationModel::Reply model_does(ReservationModel& model, const Command& command) {
  if (command.kind == 0)
    return model.on_register(command.host, command.cdw10, command.first_key, command.second_key);
  if (command.kind == 1)
    return model.on_acquire(command.host, command.cdw10, command.first_key, command.second_key);
  return model.on_release(command.host, command.cdw10, command.first_key);
}

Command any_command(Prng& prng, const ReservationModel& model) {
  Command command{.kind = static_cast<int>(prng.below(3)),
                  .host = static_cast<int>(prng.chance(50) ? 0 : prng.between(1, kHosts))};
  uint64_t action = prng.chance(40) ? prng.below(8) : prng.below(command.kind == 2 ? 2 : 3);
  if (command.kind == 2 && action == 1 && !prng.chance(4)) action = 0;  // clear now and then
  uint64_t type = prng.chance(40) ? prng.below(256) : prng.between(1, 6);
  if (command.kind == 2 && prng.chance(2)) type = static_cast<uint64_t>(model.type());
  bool ignore = prng.chance(command.kind == 0 ? 4 : 40);
  uint64_t persist = command.kind == 0 && prng.chance(6) ? prng.below(4) : 0;
  command.cdw10 =
      static_cast<uint32_t>(action | (type << 8) | (ignore ? 8u : 0u) | (persist << 30));
  auto own = model.keys().find(command.host);
  bool knows = own != model.keys().end() && !prng.chance(8);
  command.first_key = knows ? own->second : prng.below(4);
  command.second_key = prng.below(4);  // few keys: several hosts have the same
  return command;
}

void expect_same_state(const ReservationState& core, const ReservationModel& model) {
  ASSERT_TRUE(consistent(core));
  EXPECT_EQ(core.generation, model.generation());
  EXPECT_EQ(core.persistent, model.persistent());
  EXPECT_EQ(static_cast<int>(core.type), model.type());
  std::map<int, uint64_t> keys;
  std::set<int> holders;
  for (const Registrant& one : core.registrants) {
    keys[host_of(one.host)] = one.key;
    if (core.holds(one.host)) holders.insert(host_of(one.host));
  }
  EXPECT_EQ(keys, model.keys());
  EXPECT_EQ(holders, model.holders());
  for (int host = 0; host <= kHosts; ++host) {
    bool reads = check_access(core, uuid_of(host), AccessKind::kRead) == NvmeStatus::kSuccess;
    bool writes = check_access(core, uuid_of(host), AccessKind::kWrite) == NvmeStatus::kSuccess;
    EXPECT_EQ(reads, model.may_read(host)) << "host " << host;
    EXPECT_EQ(writes, model.may_write(host)) << "host " << host;
  }
}

class ReservationModelTest : public testing::TestWithParam<bool> {};

TEST_P(ReservationModelTest, SameAsTheStateMachine) {
  bool persist = GetParam();
  Prng prng(persist ? 11 : 12);
  ReservationModel model(persist, kRegistrantsMax);
  ReservationState state;
  std::map<std::pair<int, int>, int> seen;  // kind and status
  for (int step = 0; step < kSteps; ++step) {
    Command command = any_command(prng, model);
    ReservationOutcome outcome = core_does(state, command, persist);
    ReservationModel::Reply reply = model_does(model, command);
    SCOPED_TRACE(testing::Message() << "step " << step << " kind " << command.kind << " host "
                                    << command.host << " cdw10 " << command.cdw10);
    ASSERT_EQ(status_of(outcome.status), reply.status);
    ++seen[{command.kind, reply.status}];
    if (outcome.status == NvmeStatus::kSuccess) state = std::move(outcome.next);
    std::set<std::pair<int, int>> notices;
    std::set<int> preempted;
    for (const ReservationNotice& one : outcome.notices)
      notices.insert({host_of(one.host), static_cast<int>(one.type)});
    if (outcome.abort)
      for (const Uuid& host : outcome.preempted) preempted.insert(host_of(host));
    ASSERT_EQ(notices, reply.notices);
    ASSERT_EQ(preempted, reply.preempted);
    expect_same_state(state, model);
    if (HasFailure()) return;
  }
  // A sequence that never gets anywhere would prove nothing.
  for (int kind = 0; kind < 3; ++kind) {
    EXPECT_GT((seen[{kind, 0x00}]), kSteps / 50) << kind;
    EXPECT_GT((seen[{kind, 0x83}]), kSteps / 500) << kind;
    EXPECT_GT((seen[{kind, 0x02}]), kSteps / 500) << kind;
  }
}

INSTANTIATE_TEST_SUITE_P(Persistence, ReservationModelTest, testing::Bool());

}  // namespace
}  // namespace bb::sim
