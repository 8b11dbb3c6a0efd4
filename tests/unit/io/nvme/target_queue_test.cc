// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

TEST_F(TargetQueueTest, NegotiatesDigests) {
  for (bool header : {false, true}) {
    for (bool data : {false, true}) {
      Link link(core, memory);
      link.init({header, data});
      EXPECT_EQ(link.seen.ic.digests, (Digests{header, data}));
      EXPECT_EQ(link.seen.ic.h2c_data_max_bytes, 131072u);
    }
  }
}

TEST(TargetPolicy, RequireAndOff) {
  Buffer memory(4096);
  TargetCore require({}, DigestPolicy::kRequire);
  Link refused(require, memory);
  refused.init({true, false});
  EXPECT_EQ(refused.seen.term.error, FatalError::kUnsupportedParameter);
  EXPECT_EQ(refused.seen.term.information, 11u);
  EXPECT_TRUE(refused.target.queue.closing());
  TargetCore off({}, DigestPolicy::kOff);
  Link plain(off, memory);
  plain.init({true, true});
  EXPECT_EQ(plain.seen.ic.digests, (Digests{}));
}

TEST_F(TargetQueueTest, ConnectRefusals) {
  struct Case {
    const char* name;
    uint16_t queue_id, queue_size, controller_id;
    std::string nqn, host;
    NvmeStatus status;
    uint64_t result;
  };
  SubsystemConfig closed = test::fake_subsystem(kMemory);
  closed.nqn = "nqn.x:closed";
  closed.allowed_hosts = {"nqn.x:friend"};
  ASSERT_TRUE(core.add_subsystem(closed).ok());
  constexpr auto kParameters = NvmeStatus::kConnectInvalidParameters;
  const Case cases[] = {
      {"unknown subsystem", 0, 31, 0xffff, "nqn.x:no", "nqn.h", kParameters, 0x10100},
      {"bad subsystem name", 0, 31, 0xffff, "iqn.x", "nqn.h", kParameters, 0x10100},
      {"bad host name", 0, 31, 0xffff, test::kNqn, "h", kParameters, 0x10200},
      {"static controller", 0, 31, 1, test::kNqn, "nqn.h", kParameters, 0x10010},
      {"queue size 0", 0, 0, 0xffff, test::kNqn, "nqn.h", kParameters, 44},
      {"queue too deep", 0, 32, 0xffff, test::kNqn, "nqn.h", kParameters, 44},
      {"host not allowed", 0, 31, 0xffff, "nqn.x:closed", "nqn.h", NvmeStatus::kConnectInvalidHost,
       0},
      {"I/O queue of no controller", 1, 31, 77, test::kNqn, "nqn.h", kParameters, 0x10010},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    Link link(core, memory);
    link.init();
    link.send(
        link.wire.connect(test.queue_id, test.queue_size, test.controller_id, test.nqn, test.host));
    EXPECT_EQ(link.last().status, final_status(test.status));
    EXPECT_EQ(link.last().result, test.result);
  }
  EXPECT_TRUE(core.controllers().empty());
  Link link(core, memory);
  link.init();
  EXPECT_EQ(link.ask(HostWire::admin(AdminOpcode::kIdentify, 1, 4096)).status,
            final_status(NvmeStatus::kCommandSequenceError));
}

struct Fence final : Admission {
  Status answer;
  Status admit(const HostIdentity&) override { return answer; }
};

TEST_F(TargetQueueTest, AdmissionIsAskedAtEveryConnect) {
  Fence fence;
  SubsystemConfig config = test::fake_subsystem(kMemory);
  config.nqn = "nqn.x:fenced";
  config.admission = &fence;
  ASSERT_TRUE(core.add_subsystem(config).ok());
  auto owner = admin({}, 0, "nqn.x:fenced");
  auto connect = [&](uint16_t queue, uint16_t controller) {
    Link link(core, memory);
    link.init();
    link.send(link.wire.connect(queue, 31, controller, "nqn.x:fenced"));
    return link.last().status;
  };
  fence.answer = error(Code::k_fenced, "a newer owner");
  EXPECT_EQ(connect(0, 0xffff), final_status(NvmeStatus::kConnectInvalidHost));
  EXPECT_EQ(connect(1, owner->target.queue.controller()->id()),
            final_status(NvmeStatus::kConnectInvalidHost));
  fence.answer = error(Code::k_busy, "later");
  EXPECT_EQ(connect(0, 0xffff), NvmeStatus::kConnectControllerBusy);
}

TEST_F(TargetQueueTest, WhoIsExpectedIsToldToTryAgain) {
  core.set_expects([](const std::string& nqn) { return nqn == "nqn.x:soon"; });
  auto connect = [&](const char* nqn) {
    Link link(core, memory);
    link.init();
    link.send(link.wire.connect(0, 31, 0xffff, nqn));
    return link.last().status;
  };
  EXPECT_EQ(connect("nqn.x:soon"), NvmeStatus::kConnectControllerBusy);
  EXPECT_EQ(connect("nqn.x:never"), final_status(NvmeStatus::kConnectInvalidParameters));
}

TEST_F(TargetQueueTest, PropertiesAndReset) {
  auto link = admin();
  auto get = [&](uint32_t offset, uint32_t size) {
    return link->ask({.opcode = 0x7f, .nsid = 4, .cdw10 = size, .cdw11 = offset});
  };
  EXPECT_EQ(get(0x00, 1).result, 0x000000200f01007fu);
  EXPECT_EQ(get(0x08, 0).result, 0x20000u);
  EXPECT_EQ(get(0x1c, 0).result, 1u);
  EXPECT_EQ(get(0x1c, 1).status, final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(get(0x38, 0).status, final_status(NvmeStatus::kInvalidField));
  auto queue = io(*link);
  link->send(link->wire.capsule(HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0)));
  link->send(link->wire.capsule(HostWire::property_set_cc(kCcEntrySizes)));
  ASSERT_GE(link->seen.responses.size(), 2u);  // the event request is aborted
  EXPECT_EQ(link->seen.responses[link->seen.responses.size() - 2].status,
            NvmeStatus::kAbortRequested);
  EXPECT_TRUE(queue->target.queue.closing());
  EXPECT_GT(queue->target.wakes, 0);
  EXPECT_FALSE(link->target.queue.closing());
  EXPECT_EQ(get(0x1c, 0).result, 0u);
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 1, 4096)).status,
            final_status(NvmeStatus::kCommandSequenceError));
  link->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable));
  EXPECT_EQ(get(0x1c, 0).result, 1u);
  link->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable | (1u << 14)));
  EXPECT_EQ(get(0x1c, 0).result, 9u);  // shutdown complete
  link->ask(HostWire::property_set_cc(0));
  link->ask(HostWire::property_set_cc(kCcEnable));  // entry sizes of 1 byte
  EXPECT_EQ(get(0x1c, 0).result, 2u);               // fatal
}

TEST_F(TargetQueueTest, Identify) {
  auto link = admin();
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 1, 4096)).status,
            NvmeStatus::kSuccess);
  auto info = ControllerInfo::decode(link->seen.data);
  ASSERT_TRUE(info.ok()) << info.status().to_string();
  EXPECT_EQ(info->subsystem_nqn, test::kNqn);
  EXPECT_EQ(info->command_max, 128);
  EXPECT_EQ(info->capsule_bytes, 64u + 8192);
  EXPECT_TRUE(info->volatile_cache);
  for (uint32_t cns : {0u, 2u, 3u, 5u, 6u, 7u, 8u}) {
    uint32_t nsid = cns == 2 || cns == 7 || cns == 6 ? 0 : 1;
    EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, cns, 4096, nsid)).status,
              NvmeStatus::kSuccess)
        << cns;
    EXPECT_EQ(link->seen.data.size(), 4096u);
  }
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 0, 4096, 1025)).status,
            final_status(NvmeStatus::kInvalidNamespace));
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 0x1c, 4096)).status,
            final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 1, 4092)).status,
            final_status(NvmeStatus::kSglDataLengthInvalid));
}

TEST_F(TargetQueueTest, LogPagesAndFeatures) {
  auto link = admin();
  auto log = [&](uint32_t id, uint32_t bytes) {
    return link->ask(HostWire::admin(AdminOpcode::kGetLogPage, id | ((bytes / 4 - 1) << 16), bytes))
        .status;
  };
  for (uint32_t id : {0u, 1u, 2u, 3u, 4u, 5u, 0x12u}) EXPECT_EQ(log(id, 512), NvmeStatus::kSuccess);
  EXPECT_EQ(log(0x70, 1024), final_status(NvmeStatus::kInvalidLogPage));
  EXPECT_EQ(log(0x99, 512), final_status(NvmeStatus::kInvalidLogPage));
  auto set = [&](uint32_t id, uint32_t value) {
    Sqe sqe = HostWire::admin(AdminOpcode::kSetFeatures, id, 0);
    sqe.cdw11 = value;
    return link->ask(sqe);
  };
  auto get = [&](uint32_t id) {
    return link->ask(HostWire::admin(AdminOpcode::kGetFeatures, id, 0));
  };
  EXPECT_EQ(set(7, 3 | (7 << 16)).result, 0x00030003u);
  EXPECT_EQ(set(7, 999 | (999 << 16)).result, 0x000f000fu);
  EXPECT_EQ(get(7).result, 0x000f000fu);
  EXPECT_EQ(set(7, 0xffff).status, final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(set(0x0f, 4500).status, NvmeStatus::kSuccess);
  EXPECT_EQ(get(0x0f).result, 5000u);
  EXPECT_EQ(set(0x0b, 0x100).status, NvmeStatus::kSuccess);
  EXPECT_EQ(get(0x0b).result, 0x100u);
  EXPECT_EQ(get(0x06).result, 1u);
  EXPECT_EQ(get(0x55).status, final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(set(0x81, 0).status, final_status(NvmeStatus::kCommandSequenceError));
}

TEST_F(TargetQueueTest, Discovery) {
  core.set_addresses({{.address = "192.0.2.1", .port = "4420", .port_id = 1}});
  SubsystemConfig closed = test::fake_subsystem(kMemory);
  closed.nqn = "nqn.x:closed";
  closed.allowed_hosts = {"nqn.x:friend"};
  ASSERT_TRUE(core.add_subsystem(closed).ok());
  auto link = admin({}, 0, std::string(kDiscoveryNqn));
  link->ask(HostWire::admin(AdminOpcode::kGetLogPage, 0x70u | (511u << 16), 2048));
  auto found = decode_discovery_log(link->seen.data);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->entries.size(), 1u);  // not the closed one
  EXPECT_EQ(found->entries[0].subsystem_nqn, test::kNqn);
  EXPECT_EQ(found->entries[0].address, "192.0.2.1");
  EXPECT_EQ(found->entries[0].port, "4420");
  core.set_addresses({{.port = "4420", .port_id = 1}});  // listening on any address
  link = admin({}, 0, std::string(kDiscoveryNqn), "2001:db8::1");
  link->ask(HostWire::admin(AdminOpcode::kGetLogPage, 0x70u | (511u << 16), 2048));
  found = decode_discovery_log(link->seen.data);
  ASSERT_EQ(found->entries.size(), 1u);
  EXPECT_EQ(found->entries[0].address, "2001:db8::1");
  EXPECT_TRUE(found->entries[0].ipv6);
  Sqe events = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b, 0);
  events.cdw11 = kEventConfigDiscovery;
  link->ask(events);
  link->send(link->wire.capsule(HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0)));
  size_t before = link->seen.responses.size();
  ASSERT_TRUE(core.remove_subsystem("nqn.x:closed").ok());
  link->send({});
  ASSERT_EQ(link->seen.responses.size(), before + 1);
  EXPECT_EQ(link->last().result, kEventDiscoveryChanged);
}

TEST_F(TargetQueueTest, AsyncEvents) {
  auto link = admin();
  Sqe request = HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0);
  for (uint16_t id = 10; id < 14; ++id) {
    request.command_id = id;
    link->send(link->wire.capsule(request));
  }
  request.command_id = 14;
  EXPECT_EQ(link->ask(request).status, final_status(NvmeStatus::kAsyncEventLimitExceeded));
  Sqe abort = HostWire::admin(AdminOpcode::kAbort, 0, 0);
  abort.cdw10 = 13u << 16;
  size_t before = link->seen.responses.size();
  link->send(link->wire.capsule(abort));
  ASSERT_EQ(link->seen.responses.size(), before + 2);
  EXPECT_EQ(link->seen.responses[before].status, NvmeStatus::kAbortRequested);
  EXPECT_EQ(link->last().result, 0u);
  abort.cdw10 = 0x7777u << 16;
  EXPECT_EQ(link->ask(abort).result, 1u);  // not aborted
  Sqe enable = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b, 0);
  enable.cdw11 = kEventConfigNamespace;
  link->ask(enable);
  before = link->seen.responses.size();
  Geometry bigger = test::fake_geometry(kMemory);
  ASSERT_TRUE(core.update_geometry(test::kNqn, 1, bigger).ok());
  ASSERT_TRUE(core.update_geometry(test::kNqn, 1, bigger).ok());
  link->send({});
  ASSERT_EQ(link->seen.responses.size(), before + 1);  // masked until the log page is read
  EXPECT_EQ(link->last().result, kEventNamespaceChanged);
  link->ask(HostWire::admin(AdminOpcode::kGetLogPage, 4u | (1023u << 16), 4096));
}

constexpr const char* kElsewhere = "nqn.2026-11.io.blockbridge:drive:elsewhere";

TEST_F(TargetQueueTest, AHostOfASubsystemThatLivesElsewhereGoesOnThere) {
  ASSERT_TRUE(core.add_subsystem({.nqn = kElsewhere, .home = 2}).ok());
  EXPECT_EQ(core.add_namespace(kElsewhere, {.nsid = 1}).code(), Code::k_bad_state);
  Link link(core, memory);
  Buffer said = HostWire::ic_req({.header = true, .data = true});
  link.send(said);
  link.wire.format.digests = link.seen.ic.digests;
  Buffer connect = link.wire.connect(0, 31, 0xffff, kElsewhere, test::kHostNqn);
  said.insert(said.end(), connect.begin(), connect.end());
  link.send(connect);
  EXPECT_EQ(link.target.queue.home(), 2u);
  EXPECT_FALSE(link.target.queue.closing());
  EXPECT_TRUE(link.seen.responses.empty());
  link.send(link.wire.capsule(HostWire::property_set_cc(kCcEnable)));  // not heard any more
  EXPECT_TRUE(link.seen.responses.empty());

  TargetCore there{TargetLimits{}};
  SubsystemConfig config = test::fake_subsystem(kMemory);
  config.nqn = kElsewhere;
  ASSERT_TRUE(there.add_subsystem(std::move(config)).ok());
  Link moved(there, memory);
  moved.wire = link.wire;
  moved.seen = std::move(link.seen);  // it had its ICResp
  moved.target.queue.resume(said, 1);
  moved.send(ConstBytes());
  ASSERT_EQ(moved.seen.responses.size(), 1u);
  EXPECT_EQ(moved.last().status, NvmeStatus::kSuccess);
  EXPECT_TRUE(moved.target.queue.connected());
  EXPECT_EQ(moved.ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status,
            NvmeStatus::kSuccess);
}

TEST_F(TargetQueueTest, AHostThatHasHadAnAnswerHereStaysHere) {
  ASSERT_TRUE(core.add_subsystem({.nqn = kElsewhere, .home = 1}).ok());
  Link link(core, memory);
  link.init();
  link.send(link.wire.connect(0, 31, 0xffff, "nqn.2026-11.io.blockbridge:none", test::kHostNqn));
  EXPECT_EQ(plain_status(link.last().status), NvmeStatus::kConnectInvalidParameters);
  link.send(link.wire.connect(0, 31, 0xffff, kElsewhere, test::kHostNqn));
  EXPECT_EQ(plain_status(link.last().status), NvmeStatus::kCommandSequenceError);
  EXPECT_EQ(link.target.queue.home(), 0u);
}

}  // namespace
}  // namespace bb::io::nvme
