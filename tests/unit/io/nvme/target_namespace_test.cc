// SPDX-License-Identifier: Apache-2.0
// Subsystems of several namespaces, which come, go and grow while hosts are connected.
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

constexpr size_t kSecond = 1 << 20;

class TargetNamespaceTest : public TargetQueueTest {
 protected:
  TargetNamespaceTest() : second(pattern(kSecond, 2)) {
    NamespaceConfig config{.nsid = 3, .uuid = uuid, .geometry = test::fake_geometry(kSecond)};
    config.geometry.volatile_cache = false;
    EXPECT_TRUE(core.add_namespace(test::kNqn, config).ok());
    host = admin();
    queue = io(*host);
    queue->target.others[3] = &second;
    queue->target.others[4] = &second;
  }
  Cqe run(Link& link, Sqe sqe, uint32_t nsid) {
    sqe.nsid = nsid;
    return link.ask(sqe);
  }
  Buffer identify(IdentifyCns cns, uint32_t nsid) {
    Cqe done =
        host->ask(HostWire::admin(AdminOpcode::kIdentify, static_cast<uint32_t>(cns), 4096, nsid));
    return done.status == NvmeStatus{0x7ff} || host->seen.data.empty() ? Buffer{} : host->seen.data;
  }
  // The completion comes without a capsule where the data came: status and data of an admin read.
  NvmeStatus status_of(IdentifyCns cns, uint32_t nsid) {
    return host
        ->ask(HostWire::admin(AdminOpcode::kIdentify, static_cast<uint32_t>(cns), 4096, nsid))
        .status;
  }
  std::vector<uint32_t> changed() {
    host->ask(HostWire::admin(AdminOpcode::kGetLogPage, 4u | (1023u << 16), 4096));
    return decode_namespace_list(host->seen.data);
  }
  void want_events() {
    Sqe sqe = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b, 0);
    sqe.cdw11 = kEventConfigNamespace;
    EXPECT_EQ(host->ask(sqe).status, NvmeStatus::kSuccess);
  }

  Uuid uuid = Uuid::parse("6f1d0c2e-4b7a-4f3e-9a55-0d6c1f2b3a49").value();
  Buffer second;
  std::unique_ptr<Link> host;
  std::unique_ptr<Link> queue;
};

TEST_F(TargetNamespaceTest, AreListedAndDescribed) {
  EXPECT_EQ(decode_namespace_list(identify(IdentifyCns::kActiveNamespaces, 0)),
            (std::vector<uint32_t>{1, 3}));
  EXPECT_EQ(decode_namespace_list(identify(IdentifyCns::kActiveNamespaces, 1)),
            (std::vector<uint32_t>{3}));
  auto info = NamespaceInfo::decode(identify(IdentifyCns::kNamespace, 3));
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->block_count, kSecond / 512);
  EXPECT_EQ(info->uuid, uuid);
  EXPECT_EQ(NamespaceDescriptors::decode(identify(IdentifyCns::kNamespaceDescriptors, 3)).uuid,
            uuid);
  auto controller = ControllerInfo::decode(identify(IdentifyCns::kController, 0));
  ASSERT_TRUE(controller.ok());
  EXPECT_EQ(controller->namespace_max, TargetLimits{}.namespaces);
  // Valid and not active: all zero. Not valid: refused.
  EXPECT_EQ(identify(IdentifyCns::kNamespace, 2), Buffer(4096));
  EXPECT_EQ(status_of(IdentifyCns::kNamespaceDescriptors, 2),
            final_status(NvmeStatus::kInvalidNamespace));
  for (uint32_t invalid : {0u, TargetLimits{}.namespaces + 1, kNsidAll}) {
    EXPECT_EQ(status_of(IdentifyCns::kNamespace, invalid),
              final_status(NvmeStatus::kInvalidNamespace));
  }
}

TEST_F(TargetNamespaceTest, CommandsReachTheirOwn) {
  auto read = [&](uint32_t nsid) {
    run(*queue, HostWire::io(IoOpcode::kRead, 8, 1, 512), nsid);
    return queue->seen.data;
  };
  EXPECT_EQ(read(1), Buffer(memory.begin() + 4096, memory.begin() + 4608));
  EXPECT_EQ(read(3), Buffer(second.begin() + 4096, second.begin() + 4608));
  Sqe beyond = HostWire::io(IoOpcode::kRead, kSecond / 512, 1, 512);
  EXPECT_EQ(run(*queue, beyond, 3).status, final_status(NvmeStatus::kLbaOutOfRange));
  EXPECT_EQ(run(*queue, beyond, 1).status, NvmeStatus::kSuccess);
  EXPECT_EQ(run(*queue, beyond, 2).status, final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(run(*queue, beyond, 0).status, final_status(NvmeStatus::kInvalidNamespace));
  auto& subsystem = *core.subsystems().at(test::kNqn);
  EXPECT_EQ(subsystem.find(1)->counters.reads, 2u);
  EXPECT_EQ(subsystem.find(3)->counters.reads, 1u);
  EXPECT_EQ(subsystem.counters().read_bytes, 3u * 512);
}

TEST_F(TargetNamespaceTest, OneFlushMayNameThemAll) {
  queue->target.ios.clear();
  EXPECT_EQ(run(*queue, HostWire::io(IoOpcode::kFlush, 0, 1, 0), kNsidAll).status,
            NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.ios.size(), 2u);
  EXPECT_EQ(run(*queue, HostWire::io(IoOpcode::kRead, 0, 1, 512), kNsidAll).status,
            final_status(NvmeStatus::kInvalidNamespace));
}

TEST_F(TargetNamespaceTest, ACacheThatHostsDoNotKnowOfIsWrittenThrough) {
  SubsystemConfig config = test::fake_subsystem(kMemory);
  config.nqn = "nqn.x:plain";
  config.namespaces[0].geometry.volatile_cache = false;
  ASSERT_TRUE(core.add_subsystem(config).ok());
  NamespaceConfig late{.geometry = test::fake_geometry(kSecond)};
  auto nsid = core.add_namespace("nqn.x:plain", late);
  ASSERT_TRUE(nsid.ok());
  EXPECT_EQ(*nsid, 2u);
  EXPECT_FALSE(core.subsystems().at("nqn.x:plain")->volatile_cache());
  EXPECT_TRUE(core.subsystems().at("nqn.x:plain")->find(2)->write_through);
  EXPECT_FALSE(core.subsystems().at("nqn.x:plain")->find(1)->write_through);
}

TEST_F(TargetNamespaceTest, HostsAreToldOfWhatComesGoesAndGrows) {
  want_events();
  host->send(host->wire.capsule(HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0)));
  size_t before = host->seen.responses.size();
  auto added = core.add_namespace(test::kNqn, {.geometry = test::fake_geometry(kSecond)});
  ASSERT_TRUE(added.ok());
  EXPECT_EQ(*added, 2u);  // the lowest that is free
  ASSERT_TRUE(core.remove_namespace(test::kNqn, 3).ok());
  ASSERT_TRUE(core.update_geometry(test::kNqn, 1, test::fake_geometry(kMemory / 2)).ok());
  host->send({});
  ASSERT_EQ(host->seen.responses.size(), before + 1);  // one event for all, until the log is read
  EXPECT_EQ(host->last().result, kEventNamespaceChanged);
  EXPECT_EQ(changed(), (std::vector<uint32_t>{1, 2, 3}));
  EXPECT_EQ(changed(), std::vector<uint32_t>{});
  EXPECT_EQ(decode_namespace_list(identify(IdentifyCns::kActiveNamespaces, 0)),
            (std::vector<uint32_t>{1, 2}));
  EXPECT_EQ(run(*queue, HostWire::io(IoOpcode::kRead, kMemory / 1024, 1, 512), 1).status,
            final_status(NvmeStatus::kLbaOutOfRange));
}

TEST_F(TargetNamespaceTest, NothingReachesOneThatWasRemoved) {
  // With the device, ready for it, and with data still to come from the host.
  queue->target.held = true;
  Sqe read = HostWire::io(IoOpcode::kRead, 0, 8, 4096, 1);
  read.nsid = 3;
  queue->send(queue->wire.capsule(read));
  auto at_device = queue->target.queue.next_io();
  ASSERT_TRUE(at_device);
  read.command_id = 2;
  queue->send(queue->wire.capsule(read));
  Sqe write = HostWire::io(IoOpcode::kWrite, 0, 32, 16384, 3);
  write.nsid = 3;
  queue->send(queue->wire.capsule(write));
  ASSERT_EQ(queue->seen.r2ts.size(), 1u);

  auto removed = core.remove_namespace(test::kNqn, 3);
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ((*removed)->io_in_flight, 1u);
  queue->target.held = false;
  queue->send({});
  ASSERT_EQ(queue->seen.responses.size(), 2u);  // Connect, and the read that was ready
  EXPECT_EQ(queue->last().command_id, 2u);
  EXPECT_EQ(queue->last().status, final_status(NvmeStatus::kInvalidField));
  queue->send(queue->wire.h2c(
      {.command_id = 3, .transfer_tag = queue->seen.r2ts[0].transfer_tag, .last = true},
      Buffer(16384)));
  EXPECT_EQ(queue->last().command_id, 3u);
  EXPECT_EQ(queue->last().status, final_status(NvmeStatus::kInvalidField));
  queue->target.queue.on_io_done(*at_device, Code::k_ok);
  queue->send({});
  EXPECT_EQ((*removed)->io_in_flight, 0u);
  EXPECT_TRUE(queue->target.ios.empty());
  EXPECT_EQ((*removed)->use_count(), 1u);
  // Its number may be used again, by something else.
  NamespaceConfig again{.nsid = 3, .geometry = test::fake_geometry(4096)};
  EXPECT_TRUE(core.add_namespace(test::kNqn, again).ok());
  EXPECT_EQ(run(*queue, HostWire::io(IoOpcode::kRead, 8, 1, 512), 3).status,
            final_status(NvmeStatus::kLbaOutOfRange));
}

TEST_F(TargetNamespaceTest, Refusals) {
  auto add = [&](NamespaceConfig config) {
    return core.add_namespace(test::kNqn, std::move(config)).status();
  };
  Status taken = add({.nsid = 3, .geometry = test::fake_geometry(kSecond)});
  EXPECT_EQ(taken.code(), Code::k_already_exists);
  EXPECT_EQ(taken.text(),
            std::string("subsystem ") + test::kNqn + ": namespace 3: is there already");
  Status high = add({.nsid = 1025, .geometry = test::fake_geometry(kSecond)});
  EXPECT_EQ(high.code(), Code::k_no_space);
  NamespaceConfig narrow{.geometry = test::fake_geometry(kSecond)};
  narrow.geometry.transfer_max_bytes = 65536;
  Status transfers = add(narrow);
  EXPECT_EQ(transfers.code(), Code::k_invalid_argument);
  EXPECT_NE(transfers.text().find("transfers of 65536 bytes, and hosts have been told 1048576"),
            std::string::npos);
  EXPECT_EQ(add({}).code(), Code::k_invalid_argument);
  EXPECT_EQ(core.add_namespace("nqn.x:no", {}).code(), Code::k_not_found);
  EXPECT_EQ(core.remove_namespace(test::kNqn, 2).code(), Code::k_not_found);
  Geometry other = test::fake_geometry(kSecond);
  other.block_bytes = 4096;
  EXPECT_EQ(core.update_geometry(test::kNqn, 3, other).code(), Code::k_invalid_argument);
  EXPECT_EQ(core.update_geometry(test::kNqn, 2, other).code(), Code::k_not_found);
}

TEST(TargetLimits, SayWhatTheyMayBe) {
  EXPECT_TRUE(check_limits({}).ok());
  struct Case {
    TargetLimits limits;
    const char* text;
  };
  const Case cases[] = {
      {{.io_queue_depth = 1}, "I/O queue depth: 1 entries, and 2 to 4096 are allowed"},
      {{.admin_queue_depth = 31}, "admin queue depth: 31 entries, and 32 to 4096 are allowed"},
      {{.io_queues = 0}, "I/O queues of a controller: 0 queues, and 1 to 256 are allowed"},
      {{.controllers = 65520}, "controllers: 65520 controllers, and 1 to 65519 are allowed"},
      {{.capsule_data_bytes = 8}, "in-capsule data: 8 bytes are not a multiple of 16"},
      {{.transfer_bytes = 12288}, "transfer: 12288 bytes are not a power of two"},
  };
  for (const Case& test : cases) {
    Status status = check_limits(test.limits);
    EXPECT_EQ(status.code(), Code::k_invalid_argument);
    EXPECT_EQ(status.text(), test.text);
  }
}

}  // namespace
}  // namespace bb::io::nvme
