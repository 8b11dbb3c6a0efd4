// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_queue.h"

#include <gtest/gtest.h>

#include "base/prng.h"
#include "io/nvme/hex.h"
#include "support/nvme_fake.h"

namespace bb::io::nvme {
namespace {

using test::Buffer;
using test::FakeConnection;
using test::HostSeen;
using test::HostWire;

constexpr size_t kMemory = 8 << 20;

Buffer pattern(size_t length, uint64_t seed = 1) {
  Buffer data(length);
  Prng prng(seed);
  prng.fill(data);
  return data;
}

// A connection with the host's two halves.
struct Link {
  FakeConnection target;
  HostWire wire;
  HostSeen seen;
  Link(TargetCore& core, Buffer& memory) : target(core, memory) {}

  void send(ConstBytes bytes, uint64_t now_ns = 1) { seen.feed(target.exchange(bytes, now_ns)); }
  void init(Digests digests = {}) {
    send(HostWire::ic_req(digests));
    wire.format.digests = seen.ic.digests;
  }
  Cqe last() const {
    return seen.responses.empty() ? Cqe{.status = NvmeStatus{0x7ff}} : seen.responses.back();
  }
  Cqe ask(Sqe sqe, ConstBytes data = {}) {
    size_t before = seen.responses.size();
    seen.data.clear();
    send(wire.capsule(sqe, data));
    EXPECT_EQ(seen.responses.size(), before + 1);
    return last();
  }
};

class TargetQueueTest : public testing::Test {
 protected:
  explicit TargetQueueTest(TargetLimits limits = {}, DigestPolicy policy = DigestPolicy::kAllow)
      : core(limits, policy), memory(pattern(kMemory)) {
    EXPECT_TRUE(core.add_subsystem(test::fake_subsystem(kMemory)).ok());
  }

  std::unique_ptr<Link> admin(Digests digests = {}, uint32_t keep_alive_ms = 0,
                              const std::string& nqn = test::kNqn) {
    auto link = std::make_unique<Link>(core, memory);
    link->init(digests);
    link->send(link->wire.connect(0, 31, 0xffff, nqn, test::kHostNqn, 0, keep_alive_ms));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    EXPECT_EQ(link->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable)).status,
              NvmeStatus::kSuccess);
    return link;
  }
  std::unique_ptr<Link> io(const Link& of, uint16_t queue_id = 1, Digests digests = {},
                           uint8_t attributes = 0) {
    auto link = std::make_unique<Link>(core, memory);
    link->init(digests);
    link->send(link->wire.connect(queue_id, 127, of.target.queue.controller()->id(), test::kNqn,
                                  test::kHostNqn, attributes));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    return link;
  }

  TargetCore core;
  Buffer memory;
};

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
  EXPECT_EQ(link->ask(HostWire::admin(AdminOpcode::kIdentify, 0, 4096, 2)).status,
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
  for (int i = 0; i < 4; ++i) link->send(link->wire.capsule(request));
  EXPECT_EQ(link->ask(request).status, final_status(NvmeStatus::kAsyncEventLimitExceeded));
  Sqe abort = HostWire::admin(AdminOpcode::kAbort, 0, 0);
  abort.cdw10 = uint32_t{request.command_id} << 16;
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
  Geometry bigger = test::fake_subsystem(kMemory).geometry;
  ASSERT_TRUE(core.update_geometry(test::kNqn, bigger).ok());
  ASSERT_TRUE(core.update_geometry(test::kNqn, bigger).ok());
  link->send({});
  ASSERT_EQ(link->seen.responses.size(), before + 1);  // masked until the log page is read
  EXPECT_EQ(link->last().result, kEventNamespaceChanged);
  link->ask(HostWire::admin(AdminOpcode::kGetLogPage, 4u | (1023u << 16), 4096));
}

// Every combination of digests: write in the capsule and by R2T, read back.
TEST_F(TargetQueueTest, WriteAndRead) {
  for (int bits = 0; bits < 4; ++bits) {
    SCOPED_TRACE(bits);
    Digests digests{(bits & 1) != 0, (bits & 2) != 0};
    auto control = admin(digests);
    auto queue = io(*control, 1, digests);
    Buffer small = pattern(4096, 7);
    EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kWrite, 8, 8, 0), small).status,
              NvmeStatus::kSuccess);
    Buffer big = pattern(300 * 1024, 8);
    Sqe write = HostWire::io(IoOpcode::kWrite, 100, 600, 300 * 1024, 9);
    write.cdw12 |= kForceUnitAccess;
    queue->send(queue->wire.capsule(write));
    ASSERT_EQ(queue->seen.r2ts.size(), 1u);
    R2t r2t = queue->seen.r2ts[0];
    EXPECT_EQ(r2t.length_bytes, big.size());
    EXPECT_EQ(r2t.command_id, 9);
    for (uint32_t at = 0; at < big.size(); at += 65536) {
      auto piece = ConstBytes(big).subspan(at, std::min<size_t>(65536, big.size() - at));
      queue->send(queue->wire.h2c({.command_id = 9,
                                   .transfer_tag = r2t.transfer_tag,
                                   .offset_bytes = at,
                                   .last = at + piece.size() == big.size()},
                                  piece));
    }
    EXPECT_EQ(queue->last().status, NvmeStatus::kSuccess);
    EXPECT_TRUE(queue->target.ios.back().fua);
    queue->ask(HostWire::io(IoOpcode::kRead, 8, 8, 4096));
    EXPECT_EQ(queue->seen.data, small);
    queue->ask(HostWire::io(IoOpcode::kRead, 100, 600, 300 * 1024));
    EXPECT_EQ(queue->seen.data, big);
    EXPECT_FALSE(queue->seen.bad_digest || queue->seen.illegal);
    EXPECT_EQ(queue->target.buffers, 0);
    EXPECT_EQ(control->target.queue.controller()->counters.read_bytes, 4096u + 300 * 1024);
  }
}

TEST_F(TargetQueueTest, WithoutFlowControlReadsNeedNoResponse) {
  auto control = admin();
  auto queue = io(*control, 1, {}, kConnectNoFlowControl);
  EXPECT_EQ(queue->last().sq_head, 0xffff);
  size_t before = queue->seen.responses.size();
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  EXPECT_EQ(queue->seen.responses.size(), before);
  ASSERT_EQ(queue->seen.data_headers.size(), 1u);
  EXPECT_TRUE(queue->seen.data_headers[0].success && queue->seen.data_headers[0].last);
}

TEST_F(TargetQueueTest, OtherCommands) {
  auto control = admin();
  auto queue = io(*control);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kFlush, 0, 1, 0)).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.ios.back().op, TargetOp::kFlush);
  Sqe zeroes = HostWire::io(IoOpcode::kWriteZeroes, 16, 4096, 0);
  zeroes.cdw12 |= kDeallocate;
  EXPECT_EQ(queue->ask(zeroes).status, NvmeStatus::kSuccess);
  EXPECT_TRUE(queue->target.ios.back().may_discard);
  EXPECT_TRUE(all_zero(ConstBytes(memory).subspan(16 * 512, 4096 * 512)));
  Buffer same(memory.begin(), memory.begin() + 4096);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kCompare, 0, 8, 0), same).status,
            NvmeStatus::kSuccess);
  same[100] ^= std::byte{1};
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kCompare, 0, 8, 0), same).status,
            final_status(NvmeStatus::kCompareFailure));
  Buffer ranges(32);
  store_le<uint32_t>(ranges.data() + 4, 8);
  store_le<uint64_t>(ranges.data() + 8, 0);
  store_le<uint32_t>(ranges.data() + 20, 16);
  store_le<uint64_t>(ranges.data() + 24, 8000);
  Sqe trim = HostWire::io(IoOpcode::kDatasetManagement, 0, 1, 0);
  trim.cdw10 = 1;
  trim.cdw11 = kDsmDeallocate;
  size_t before = queue->target.ios.size();
  EXPECT_EQ(queue->ask(trim, ranges).status, NvmeStatus::kSuccess);
  ASSERT_EQ(queue->target.ios.size(), before + 2);
  EXPECT_EQ(queue->target.ios.back().offset_bytes, 8000u * 512);
  EXPECT_EQ(queue->target.ios.back().length_bytes, 16u * 512);
  trim.cdw11 = 0;  // only hints
  EXPECT_EQ(queue->ask(trim, ranges).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.ios.size(), before + 2);
  store_le<uint64_t>(ranges.data() + 24, kMemory / 512);
  trim.cdw11 = kDsmDeallocate;
  EXPECT_EQ(queue->ask(trim, ranges).status, final_status(NvmeStatus::kLbaOutOfRange));
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetQueueTest, CommandErrors) {
  auto control = admin();
  auto queue = io(*control);
  constexpr uint64_t kEnd = kMemory / 512;
  struct Case {
    const char* name;
    Sqe sqe;
    NvmeStatus status;
  };
  auto change = [](Sqe sqe, auto how) {
    how(sqe);
    return sqe;
  };
  Sqe read = HostWire::io(IoOpcode::kRead, 0, 1, 512);
  const Case cases[] = {
      {"beyond the end", HostWire::io(IoOpcode::kRead, kEnd, 1, 512), NvmeStatus::kLbaOutOfRange},
      {"across the end", HostWire::io(IoOpcode::kRead, kEnd - 1, 2, 1024),
       NvmeStatus::kLbaOutOfRange},
      {"wraps", HostWire::io(IoOpcode::kRead, UINT64_MAX, 2, 1024), NvmeStatus::kLbaOutOfRange},
      {"SGL shorter", HostWire::io(IoOpcode::kRead, 0, 2, 512), NvmeStatus::kSglDataLengthInvalid},
      {"above MDTS", HostWire::io(IoOpcode::kRead, 0, 4096, 2 << 20), NvmeStatus::kInvalidField},
      {"namespace 2", change(read, [](Sqe& s) { s.nsid = 2; }), NvmeStatus::kInvalidNamespace},
      {"all namespaces", change(read, [](Sqe& s) { s.nsid = kNsidAll; }),
       NvmeStatus::kInvalidNamespace},
      {"unknown opcode", change(read, [](Sqe& s) { s.opcode = 0x0c; }), NvmeStatus::kInvalidOpcode},
      {"PRP", change(read, [](Sqe& s) { s.flags = 0; }), NvmeStatus::kInvalidField},
      {"fused", change(read, [](Sqe& s) { s.flags |= 1; }), NvmeStatus::kInvalidField},
      {"keyed SGL", change(read, [](Sqe& s) { s.sgl.type = 0x40; }), NvmeStatus::kSglTypeInvalid},
      {"read into the capsule", change(read, [](Sqe& s) { s.sgl.type = 1; }),
       NvmeStatus::kSglTypeInvalid},
      {"write with an offset",
       change(read,
              [](Sqe& s) {
                s.opcode = 1;
                s.sgl = {.address = 4, .length_bytes = 512, .type = 1};
              }),
       NvmeStatus::kSglOffsetInvalid},
      {"data announced, none there",
       change(read,
              [](Sqe& s) {
                s.opcode = 1;
                s.sgl.type = 1;
              }),
       NvmeStatus::kSglDataLengthInvalid},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    EXPECT_EQ(queue->ask(test.sqe).status, final_status(test.status));
  }
  Buffer data(512);  // data behind a command that takes none goes by unharmed
  EXPECT_EQ(queue->ask(change(read, [](Sqe& s) { s.sgl.type = 0x5a; }), data).status,
            final_status(NvmeStatus::kSglDataLengthInvalid));
  EXPECT_EQ(queue->ask(read).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetQueueTest, DeviceErrors) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.fails = Code::k_io_error;
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kRead, 0, 1, 512)).status,
            NvmeStatus::kUnrecoveredReadError);
  EXPECT_TRUE(queue->seen.data.empty());
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kWrite, 0, 1, 0), Buffer(512)).status,
            NvmeStatus::kWriteFault);
  queue->target.fails = Code::k_unavailable;
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kFlush, 0, 1, 0)).status,
            NvmeStatus::kNamespaceNotReady);
  EXPECT_EQ(control->target.queue.controller()->counters.errors, 3u);
}

TEST_F(TargetQueueTest, ADataDigestErrorFailsTheCommandOnly) {
  auto control = admin({true, true});
  auto queue = io(*control, 1, {true, true});
  Buffer before = memory;
  Buffer capsule = queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 3));
  capsule[1000] ^= std::byte{4};
  queue->send(capsule);
  EXPECT_EQ(queue->last().status, NvmeStatus::kTransientTransportError);
  EXPECT_TRUE(may_retry(queue->last().status));
  EXPECT_EQ(memory, before);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kRead, 0, 1, 512)).status, NvmeStatus::kSuccess);
  EXPECT_EQ(control->target.queue.controller()->counters.digest_errors, 1u);
}

struct Illegal {
  const char* name;
  Buffer (*make)(const HostWire& wire, R2t r2t);
  FatalError error;
  uint32_t information;
};

// On an I/O queue with one write of 8192 bytes whose R2T is out.
const Illegal kIllegals[] = {
    {"unknown tag",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = 999}, Buffer(512));
     },
     FatalError::kInvalidHeaderField, 10},
    {"free tag",
     [](const HostWire& w, R2t r) {
       return w.h2c(
           {.command_id = r.command_id, .transfer_tag = static_cast<uint16_t>(r.transfer_tag + 1)},
           Buffer(512));
     },
     FatalError::kInvalidHeaderField, 10},
    {"other command",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = 1, .transfer_tag = r.transfer_tag}, Buffer(512));
     },
     FatalError::kInvalidHeaderField, 8},
    {"out of order",
     [](const HostWire& w, R2t r) {
       return w.h2c(
           {.command_id = r.command_id, .transfer_tag = r.transfer_tag, .offset_bytes = 512},
           Buffer(512));
     },
     FatalError::kInvalidHeaderField, 12},
    {"too much",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag, .last = true},
                    Buffer(8196));
     },
     FatalError::kDataOutOfRange, 0},
    {"last too early",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag, .last = true},
                    Buffer(512));
     },
     FatalError::kInvalidHeaderField, 1},
    {"last missing",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag}, Buffer(8192));
     },
     FatalError::kInvalidHeaderField, 1},
    {"second ICReq", [](const HostWire&, R2t) { return HostWire::ic_req(); }, FatalError::kSequence,
     0},
};

TEST_F(TargetQueueTest, IllegalPdusEndTheConnectionWithTheReason) {
  auto control = admin();
  uint16_t id = 0;
  for (const Illegal& test : kIllegals) {
    SCOPED_TRACE(test.name);
    auto queue = io(*control, ++id);
    queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9)));
    ASSERT_EQ(queue->seen.r2ts.size(), 1u);
    Buffer bad = test.make(queue->wire, queue->seen.r2ts[0]);
    queue->send(bad);
    EXPECT_EQ(queue->seen.term.error, test.error);
    EXPECT_EQ(queue->seen.term.information, test.information);
    size_t header = static_cast<size_t>(bad[2]);
    EXPECT_EQ(hex(queue->seen.term_header).substr(0, 23), hex(ConstBytes(bad).first(8)));
    EXPECT_LE(queue->seen.term_header.size(), header);
    EXPECT_TRUE(queue->target.queue.closing());
    EXPECT_TRUE(queue->target.queue.term_sent());
  }
  EXPECT_FALSE(control->target.queue.closing());
}

TEST_F(TargetQueueTest, DataBeforeItsR2tHasLeftIsIllegal) {
  auto control = admin();
  auto queue = io(*control);
  Buffer bytes = queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9));
  for (uint16_t tag = 0; tag < 128; ++tag) {  // whichever slot it got
    test::append(
        bytes, queue->wire.h2c({.command_id = 9, .transfer_tag = tag, .last = true}, Buffer(8192)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.term.error, FatalError::kInvalidHeaderField);
  EXPECT_EQ(queue->seen.term.information, 10u);
}

TEST_F(TargetQueueTest, MoreCommandsThanTheQueueHolds) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.held = true;
  Buffer bytes;
  for (int i = 0; i < 129; ++i) {
    test::append(bytes, queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.term.error, FatalError::kSequence);
}

class SmallMemory : public TargetQueueTest {
 protected:
  SmallMemory() : TargetQueueTest({.buffered_bytes = 64 * 1024}) {}
};

// Commands beyond the memory limit wait their turn; nothing is lost.
TEST_F(SmallMemory, CommandsWaitForBuffers) {
  auto control = admin();
  auto queue = io(*control);
  Buffer bytes;
  size_t before = queue->seen.responses.size();
  for (uint16_t i = 0; i < 100; ++i) {
    test::append(bytes, queue->wire.capsule(HostWire::io(IoOpcode::kRead, i, 64, 32768, i)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.responses.size(), before + 100);
  EXPECT_LE(queue->target.most_bytes, 64u * 1024);
  EXPECT_EQ(queue->target.buffers, 0);
}

// Data of a host whose answers are never sent: slots and buffers come back when it ends.
TEST_F(TargetQueueTest, EndAtEveryPoint) {
  auto control = admin({true, true});
  Buffer session;
  HostWire wire{.format = {.digests = {true, true}}};
  test::append(session, HostWire::ic_req({true, true}));
  test::append(session, wire.connect(1, 127, control->target.queue.controller()->id()));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096)));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9)));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kRead, 0, 16, 8192, 10)));
  for (size_t at = 0; at <= session.size(); at += 13) {
    int64_t left = 0;
    {
      FakeConnection connection(core, memory);
      connection.exchange(ConstBytes(session).first(at));
      connection.queue.close("cut");
      EXPECT_FALSE(connection.queue.next_io().has_value());
      EXPECT_EQ(connection.queue.outgoing(), nullptr);
      left = connection.buffers;
    }
    EXPECT_GE(left, 0);
    EXPECT_EQ(core.controllers().size(), 1u);
  }
}

TEST_F(TargetQueueTest, KeepAlive) {
  auto control = admin({}, 2000);
  auto queue = io(*control);
  constexpr uint64_t kSecond = 1'000'000'000;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)), 10 * kSecond);
  core.expire(12 * kSecond);  // any command counts
  EXPECT_FALSE(control->target.queue.closing());
  control->send(control->wire.capsule(HostWire::admin(AdminOpcode::kKeepAlive, 0, 0)),
                12 * kSecond);
  core.expire(15 * kSecond);
  EXPECT_FALSE(control->target.queue.closing());
  core.expire(15 * kSecond + 1);
  EXPECT_TRUE(control->target.queue.closing());
  EXPECT_TRUE(queue->target.queue.closing());
  EXPECT_EQ(queue->target.queue.close_reason(), "no keep alive in time");
  EXPECT_TRUE(core.controllers().empty());
}

TEST_F(TargetQueueTest, NothingIsSubmittedOnceAHostIsCutOff) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.held = true;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 5)));
  core.end_controllers([](const Controller&) { return true; }, "fenced");
  queue->target.held = false;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 6)));
  EXPECT_TRUE(queue->target.ios.empty());
  EXPECT_EQ(memory, pattern(kMemory));
}

}  // namespace
}  // namespace bb::io::nvme
