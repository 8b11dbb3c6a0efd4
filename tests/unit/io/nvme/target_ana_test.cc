// SPDX-License-Identifier: Apache-2.0
// Asymmetric namespace access: what ports say of groups, who is told, and what I/O gets.
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

TEST(AnaTable, CountsWhatIsNotUsable) {
  AnaTable table;
  EXPECT_TRUE(table.port(1).all_usable());
  EXPECT_TRUE(*table.set(1, 3, AnaState::kInaccessible));
  EXPECT_FALSE(*table.set(1, 3, AnaState::kInaccessible));
  EXPECT_TRUE(*table.set(1, 3, AnaState::kPersistentLoss));
  EXPECT_TRUE(*table.set(1, 4, AnaState::kChange));
  EXPECT_FALSE(table.port(1).all_usable());
  EXPECT_TRUE(table.port(2).all_usable());
  EXPECT_TRUE(*table.set(1, 3, AnaState::kNonOptimized));
  EXPECT_FALSE(table.port(1).all_usable());
  EXPECT_TRUE(*table.set(1, 4, AnaState::kOptimized));
  EXPECT_TRUE(table.port(1).all_usable());
  EXPECT_EQ(table.change_count(), 5u);
  EXPECT_EQ(table.port(1).changed_at(3), 4u);
  for (uint32_t group : {0u, kAnaGroupMax + 1}) {
    EXPECT_EQ(table.set(1, group, AnaState::kOptimized).code(), Code::k_invalid_argument);
  }
}

class TargetAnaTest : public TargetQueueTest {
 protected:
  TargetAnaTest() {
    NamespaceConfig second{.nsid = 2, .geometry = test::fake_geometry(1 << 20), .ana_group = 5};
    EXPECT_TRUE(core.add_namespace(test::kNqn, second).ok());
    for (uint16_t port : {uint16_t{1}, uint16_t{2}}) {
      hosts[port] = connect(port, 0, 0xffff);
      hosts[port]->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable));
      queues[port] = connect(port, 1, id_of(port));
      queues[port]->target.others[2] = &memory;
      Sqe events = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b, 0);
      events.cdw11 = kEventConfigAna;
      hosts[port]->ask(events);
    }
  }
  uint16_t id_of(uint16_t port) { return hosts[port]->target.queue.controller()->id(); }
  std::unique_ptr<Link> connect(uint16_t port, uint16_t queue_id, uint16_t controller) {
    auto link = std::make_unique<Link>(core, memory);
    link->target.queue.set_port(port);
    link->init();
    link->send(link->wire.connect(queue_id, 31, controller, test::kNqn));
    return link;
  }
  AnaState told(uint16_t port, uint32_t nsid, bool retain = false) {
    uint32_t cdw10 = 0x0cu | (1023u << 16) | (retain ? 1u << 15 : 0);
    hosts[port]->ask(HostWire::admin(AdminOpcode::kGetLogPage, cdw10, 4096));
    auto state = find_ana_state(hosts[port]->seen.data, nsid, 0);
    EXPECT_TRUE(state.ok());
    return state.ok() ? *state : AnaState::kChange;
  }
  NvmeStatus read(uint16_t port, uint32_t nsid) {
    Sqe sqe = HostWire::io(IoOpcode::kRead, 0, 1, 512);
    sqe.nsid = nsid;
    return queues[port]->ask(sqe).status;
  }

  std::map<uint16_t, std::unique_ptr<Link>> hosts;
  std::map<uint16_t, std::unique_ptr<Link>> queues;
};

TEST_F(TargetAnaTest, IsDescribed) {
  hosts[1]->ask(HostWire::admin(AdminOpcode::kIdentify, 1, 4096));
  auto controller = ControllerInfo::decode(hosts[1]->seen.data);
  ASSERT_TRUE(controller.ok());
  EXPECT_TRUE(controller->ana);
  EXPECT_EQ(controller->ana_transition_s, 10);
  EXPECT_EQ(controller->async_events, kEventConfigNamespace | kEventConfigAna);
  hosts[1]->ask(HostWire::admin(AdminOpcode::kIdentify, 0, 4096, 2));
  auto second = NamespaceInfo::decode(hosts[1]->seen.data);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->ana_group, 5u);
  EXPECT_EQ(told(1, 1), AnaState::kOptimized);
  EXPECT_EQ(told(1, 2), AnaState::kOptimized);
  // Groups only: the header and two groups without namespaces.
  hosts[1]->ask(HostWire::admin(AdminOpcode::kGetLogPage, 0x0cu | (1u << 8) | (1023u << 16), 4096));
  EXPECT_EQ(load_le<uint16_t>(hosts[1]->seen.data.data() + 8), 2u);
  EXPECT_EQ(load_le<uint32_t>(hosts[1]->seen.data.data() + 16 + 4), 0u);
  EXPECT_EQ(load_le<uint32_t>(hosts[1]->seen.data.data() + 16 + 32), 5u);
}

TEST_F(TargetAnaTest, IOIsRefusedWithTheStatusOfItsGroupAtItsPort) {
  struct Case {
    AnaState state;
    NvmeStatus status;
  };
  const Case cases[] = {{AnaState::kNonOptimized, NvmeStatus::kSuccess},
                        {AnaState::kInaccessible, NvmeStatus::kAnaInaccessible},
                        {AnaState::kPersistentLoss, NvmeStatus::kAnaPersistentLoss},
                        {AnaState::kChange, NvmeStatus::kAnaTransition},
                        {AnaState::kOptimized, NvmeStatus::kSuccess}};
  for (const Case& test : cases) {
    SCOPED_TRACE(ana_state_name(test.state));
    ASSERT_TRUE(core.set_ana_state(1, 5, test.state).ok());
    EXPECT_EQ(told(1, 2), test.state);
    EXPECT_EQ(told(1, 1), AnaState::kOptimized);
    EXPECT_EQ(told(2, 2), AnaState::kOptimized);
    EXPECT_EQ(read(1, 2), test.status);
    EXPECT_EQ(read(1, 1), NvmeStatus::kSuccess);
    EXPECT_EQ(read(2, 2), NvmeStatus::kSuccess);
  }
}

TEST_F(TargetAnaTest, TheHostsOfThePortAreToldOnceUntilTheyLook) {
  for (auto& [port, host] : hosts) {
    for (uint16_t id : {uint16_t{50}, uint16_t{51}}) {
      Sqe event = HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0);
      event.command_id = id;
      host->send(host->wire.capsule(event));
    }
  }
  size_t before = hosts[1]->seen.responses.size();
  size_t others = hosts[2]->seen.responses.size();
  ASSERT_TRUE(core.set_ana_state(1, 5, AnaState::kInaccessible).ok());
  ASSERT_TRUE(core.set_ana_state(1, 5, AnaState::kNonOptimized).ok());
  for (auto& [port, host] : hosts) host->send({});
  ASSERT_EQ(hosts[1]->seen.responses.size(), before + 1);
  EXPECT_EQ(hosts[1]->last().result, kEventAnaChanged);
  EXPECT_EQ(hosts[2]->seen.responses.size(), others);
  told(1, 2, true);  // "retain": it stays masked
  ASSERT_TRUE(core.set_ana_state(1, 1, AnaState::kNonOptimized).ok());
  hosts[1]->send({});
  EXPECT_EQ(hosts[1]->seen.responses.size(), before + 2);
  told(1, 2);
  ASSERT_TRUE(core.set_ana_state(1, 1, AnaState::kOptimized).ok());
  hosts[1]->send({});
  EXPECT_EQ(hosts[1]->last().result, kEventAnaChanged);
}

TEST_F(TargetAnaTest, WhatTheDeviceDoesNotHaveIsRefusedAtOnce) {
  Link& queue = *queues[1];
  queue.target.held = true;
  Sqe sqe = HostWire::io(IoOpcode::kWriteZeroes, 0, 1, 0, 1);
  sqe.nsid = 2;
  queue.send(queue.wire.capsule(sqe));
  auto with_device = queue.target.queue.next_io();
  ASSERT_TRUE(with_device);
  sqe.command_id = 2;
  queue.send(queue.wire.capsule(sqe));
  int wakes = queue.target.wakes;
  ASSERT_TRUE(core.set_ana_state(1, 5, AnaState::kInaccessible).ok());
  EXPECT_GT(queue.target.wakes, wakes);
  EXPECT_TRUE(queue.target.queue.works_on(5));
  EXPECT_FALSE(queue.target.queue.works_on(1));
  EXPECT_TRUE(queue.target.queue.is_awaited(*with_device));
  EXPECT_FALSE(queue.target.queue.next_io());
  queue.target.held = false;
  queue.send({});
  EXPECT_EQ(queue.last().command_id, 2u);
  EXPECT_EQ(queue.last().status, NvmeStatus::kAnaInaccessible);
  queue.target.queue.on_io_done(*with_device, Code::k_ok);
  EXPECT_FALSE(queue.target.queue.works_on(5));
}

TEST_F(TargetAnaTest, AQueueComesByThePortOfItsController) {
  auto stray = connect(2, 2, id_of(1));
  EXPECT_EQ(stray->last().status, final_status(NvmeStatus::kConnectInvalidParameters));
}

}  // namespace
}  // namespace bb::io::nvme
