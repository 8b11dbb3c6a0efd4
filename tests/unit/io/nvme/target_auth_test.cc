// SPDX-License-Identifier: Apache-2.0
// Queues of hosts that have yet to prove themselves: what they hold, and what they do not.
#include "io/nvme/auth_host.h"
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

constexpr NvmeStatus kOk = NvmeStatus::kSuccess;
constexpr uint64_t kSecondNs = 1'000'000'000;

void random_bytes(Bytes into) {
  static Prng prng(7);
  prng.fill(into);
}

AuthSecret secret(int fill) {
  Secret key(32);
  std::memset(key.data(), fill, key.size());
  return {.transform = std::nullopt, .key = std::move(key)};
}

AuthPolicy quick() { return {.hashes = {Hash::kSha256}, .groups = {DhGroup::kNull}}; }

class TargetAuthTest : public testing::Test {
 protected:
  TargetAuthTest() : core(TargetLimits{}, DigestPolicy::kAllow, random_bytes) {
    SubsystemConfig config = test::fake_subsystem(kMemory);
    config.security.policy = quick();
    config.security.hosts.emplace(test::kHostNqn, secret(1));
    EXPECT_TRUE(core.add_subsystem(std::move(config)).ok());
  }

  // Connected, and asked to authenticate.
  std::unique_ptr<Link> stranger(uint16_t queue_id, uint16_t controller,
                                 uint32_t keep_alive_ms = 0) {
    auto link = std::make_unique<Link>(core, memory);
    link->init();
    link->send(
        link->wire.connect(queue_id, 31, controller, test::kNqn, test::kHostNqn, 0, keep_alive_ms));
    EXPECT_EQ(link->last().status, kOk);
    EXPECT_NE(link->last().result & kConnectAuthentication, 0u);
    return link;
  }

  static Sqe auth_sqe(FabricsType type, size_t length) {
    return {.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics),
            .flags = kFlagSgl,
            .command_id = 5,
            .nsid = static_cast<uint32_t>(type),
            .cdw10 = kAuthProtocol,
            .cdw11 = static_cast<uint32_t>(length)};
  }
  // The status of the last of its commands.
  static NvmeStatus authenticate(Link& link, int fill = 1) {
    AuthHost host({.policy = quick(),
                   .host = secret(fill),
                   .controller = std::nullopt,
                   .host_nqn = test::kHostNqn,
                   .subsystem_nqn = test::kNqn,
                   .random = random_bytes});
    NvmeStatus status = kOk;
    while (!host.done() && status == kOk) {
      std::vector<std::byte> message = host.next();
      if (!message.empty()) {
        status = link.ask(auth_sqe(FabricsType::kAuthSend, message.size()), message).status;
        continue;
      }
      Sqe sqe = auth_sqe(FabricsType::kAuthReceive, kAuthMessageMaxBytes);
      sqe.sgl = transport_sgl(kAuthMessageMaxBytes);
      status = link.ask(sqe).status;
      if (status == kOk) host.on_message(link.seen.data);
    }
    return status;
  }

  std::unique_ptr<Link> admin(uint32_t keep_alive_ms = 0) {
    auto link = stranger(0, kControllerIdAny, keep_alive_ms);
    EXPECT_EQ(authenticate(*link), kOk);
    EXPECT_EQ(link->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status, kOk);
    return link;
  }
  static uint16_t id_of(const Link& admin) { return admin.target.queue.controller()->id(); }
  static NvmeStatus read(Link& link) {
    return link.ask(HostWire::io(IoOpcode::kRead, 8, 1, 512)).status;
  }

  TargetCore core;
  Buffer memory = pattern(kMemory);
};

// Names, identifiers and controller ids are no secrets: whoever knows them holds nobody's queue.
TEST_F(TargetAuthTest, AStrangerDoesNotHoldAQueue) {
  auto host = admin();
  std::vector<std::unique_ptr<Link>> strangers;
  for (int i = 0; i < 40; ++i) strangers.push_back(stranger(1, id_of(*host)));
  auto queue = stranger(1, id_of(*host));
  EXPECT_NE(read(*queue), kOk);
  EXPECT_EQ(authenticate(*queue), kOk);
  EXPECT_EQ(read(*queue), kOk);
  for (auto& each : strangers) {
    EXPECT_NE(read(*each), kOk);
    EXPECT_FALSE(each->target.queue.closing());
  }
  EXPECT_EQ(read(*queue), kOk);
  // One that proves itself too late is the host's second connection for the queue.
  EXPECT_EQ(authenticate(*strangers[0]), final_status(NvmeStatus::kCommandSequenceError));
  EXPECT_NE(read(*strangers[0]), kOk);
  EXPECT_FALSE(queue->target.queue.closing());
  // And for a queue that is taken nobody is asked for a proof any more.
  Link late(core, memory);
  late.init();
  late.send(late.wire.connect(1, 31, id_of(*host), test::kNqn, test::kHostNqn));
  EXPECT_EQ(late.last().status, final_status(NvmeStatus::kCommandSequenceError));
}

TEST_F(TargetAuthTest, StrangersEndWithTheControllerAndItsReset) {
  auto host = admin();
  auto one = stranger(1, id_of(*host));
  EXPECT_EQ(host->ask(HostWire::property_set_cc(kCcEntrySizes)).status, kOk);  // reset
  EXPECT_TRUE(one->target.queue.closing());
  EXPECT_EQ(host->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status, kOk);
  auto two = stranger(1, id_of(*host));
  auto gone = stranger(2, id_of(*host));
  gone->target.queue.close("it left");
  host->target.queue.close("it left");
  EXPECT_TRUE(two->target.queue.closing());
  EXPECT_TRUE(core.controllers().empty());
}

TEST_F(TargetAuthTest, StrangersKeepNoControllerAlive) {
  auto host = admin(1000);
  auto one = stranger(1, id_of(*host));
  one->send(one->wire.capsule(auth_sqe(FabricsType::kAuthSend, 8), Buffer(8)), 60 * kSecondNs);
  EXPECT_TRUE(host->target.queue.controller()->expired(60 * kSecondNs));
}

}  // namespace
}  // namespace bb::io::nvme
