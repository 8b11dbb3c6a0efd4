// SPDX-License-Identifier: Apache-2.0
// Abort, identifiers in flight, Copy, Verify, shutdown and reset.
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

class TargetAbortTest : public TargetQueueTest {
 protected:
  static TargetLimits small() {
    TargetLimits limits;
    limits.buffered_bytes = 65536;
    limits.buffered_reserve_bytes = 16384;
    return limits;
  }
  TargetAbortTest() : TargetQueueTest(small()) {
    host = admin();
    queue = io(*host);
    queue->seen.responses.clear();
  }
  bool abort(uint16_t id, uint16_t queue_id = 1) {
    Cqe done = host->ask(HostWire::admin(AdminOpcode::kAbort, queue_id | (uint32_t{id} << 16), 0));
    EXPECT_EQ(done.status, NvmeStatus::kSuccess);
    queue->send({});
    return done.result == 0;
  }
  void send(Sqe sqe, ConstBytes data = {}) { queue->send(queue->wire.capsule(sqe, data)); }
  void data(uint16_t id, uint32_t length) {
    for (const R2t& one : queue->seen.r2ts) {
      if (one.command_id != id) continue;
      queue->send(queue->wire.h2c(
          {.command_id = id, .transfer_tag = one.transfer_tag, .last = true}, pattern(length, id)));
    }
  }
  std::vector<std::pair<uint16_t, NvmeStatus>> answers() {
    std::vector<std::pair<uint16_t, NvmeStatus>> all;
    for (const Cqe& one : queue->seen.responses) all.emplace_back(one.command_id, one.status);
    return all;
  }
  using Answers = std::vector<std::pair<uint16_t, NvmeStatus>>;

  std::unique_ptr<Link> host;
  std::unique_ptr<Link> queue;
};

constexpr auto kAborted = NvmeStatus::kAbortRequested;

TEST_F(TargetAbortTest, WhatTheDeviceDoesNotHave) {
  queue->target.held = true;
  send(HostWire::io(IoOpcode::kRead, 0, 128, 65536, 1));  // takes all the memory
  ASSERT_TRUE(queue->target.queue.next_io());
  send(HostWire::io(IoOpcode::kRead, 0, 32, 16384, 2));    // waits for memory
  send(HostWire::io(IoOpcode::kWrite, 0, 32, 16384, 3));   // likewise
  send(HostWire::io(IoOpcode::kWriteZeroes, 0, 8, 0, 4));  // ready
  EXPECT_TRUE(abort(2));
  EXPECT_TRUE(abort(4));
  EXPECT_FALSE(abort(2));  // there is none any more
  EXPECT_FALSE(abort(1));  // with the device
  EXPECT_FALSE(abort(9));
  EXPECT_FALSE(abort(3, 2));  // no such queue
  EXPECT_TRUE(abort(3));
  EXPECT_EQ(answers(), (Answers{{2, kAborted}, {4, kAborted}, {3, kAborted}}));
  EXPECT_TRUE(queue->seen.r2ts.empty());
  EXPECT_TRUE(core.subsystems().at(test::kNqn)->find(1)->writes.idle());
  queue->target.queue.on_io_done(0, Code::k_ok);
}

TEST_F(TargetAbortTest, DataUnderWayAreLetIn) {
  Buffer before(memory.begin(), memory.begin() + 16384);
  send(HostWire::io(IoOpcode::kWrite, 0, 32, 16384, 1));
  ASSERT_EQ(queue->seen.r2ts.size(), 1u);
  EXPECT_TRUE(abort(1));
  EXPECT_TRUE(queue->seen.responses.empty());
  data(1, 16384);
  EXPECT_EQ(answers(), (Answers{{1, kAborted}}));
  EXPECT_EQ(Buffer(memory.begin(), memory.begin() + 16384), before);
  EXPECT_FALSE(queue->target.queue.closing());
  EXPECT_EQ(queue->target.buffers, 0);
}

// The driver receives straight into the command's memory: neither an Abort nor the controller's end
// may take that away before the data are in.
TEST_F(TargetAbortTest, DataReceivedWhereTheyBelongKeepTheirPlace) {
  for (bool reset : {false, true}) {
    TargetQueue& target = queue->target.queue;
    Buffer before(memory.begin(), memory.begin() + 65536);
    Buffer content = pattern(65536, 5);
    send(HostWire::io(IoOpcode::kWrite, 0, 128, 65536, 1));
    uint16_t tag = queue->seen.r2ts.back().transfer_tag;
    Buffer pdu = queue->wire.h2c({.command_id = 1, .transfer_tag = tag, .last = true}, content);
    size_t header = pdu.size() - content.size();
    target.on_bytes(ConstBytes(pdu).first(header + 100), 1);
    Bytes place = target.direct_target();
    ASSERT_EQ(place.size(), content.size() - 100);
    if (reset) {
      host->ask(HostWire::property_set_cc(kCcEntrySizes));
      EXPECT_TRUE(target.closing());
    } else {
      EXPECT_TRUE(abort(1));
    }
    EXPECT_EQ(queue->target.buffers, 1);
    std::memcpy(place.data(), pdu.data() + header + 100, place.size());
    queue->send(place);
    EXPECT_EQ(Buffer(memory.begin(), memory.begin() + 65536), before);
    if (reset) continue;
    EXPECT_EQ(answers(), (Answers{{1, kAborted}}));
    EXPECT_EQ(queue->target.buffers, 0);
  }
}

TEST_F(TargetAbortTest, OfTheAdminQueue) {
  Sqe event = HostWire::admin(AdminOpcode::kAsyncEventRequest, 0, 0);
  event.command_id = 77;
  host->send(host->wire.capsule(event));
  size_t before = host->seen.responses.size();
  host->send(host->wire.capsule(HostWire::admin(AdminOpcode::kAbort, 77u << 16, 0)));
  ASSERT_EQ(host->seen.responses.size(), before + 2);
  EXPECT_EQ(host->seen.responses[before].command_id, 77u);
  EXPECT_EQ(host->seen.responses[before].status, kAborted);
  EXPECT_EQ(host->last().result, 0u);
  // Itself it cannot abort.
  EXPECT_EQ(host->ask(HostWire::admin(AdminOpcode::kAbort, 2u << 16, 0)).result, 1u);
}

TEST_F(TargetAbortTest, AnIdentifierInFlightIsAConflict) {
  queue->target.held = true;
  send(HostWire::io(IoOpcode::kRead, 0, 1, 512, 0x101));
  send(HostWire::io(IoOpcode::kRead, 0, 1, 512, 0x201));  // the same low byte
  EXPECT_TRUE(answers().empty());
  send(HostWire::io(IoOpcode::kRead, 0, 1, 512, 0x101));
  EXPECT_EQ(answers(), (Answers{{0x101, final_status(NvmeStatus::kCommandIdConflict)}}));
  queue->target.held = false;
  queue->send({});
  EXPECT_EQ(queue->seen.responses.size(), 3u);
  send(HostWire::io(IoOpcode::kRead, 0, 1, 512, 0x101));  // and free again
  EXPECT_EQ(queue->last().status, NvmeStatus::kSuccess);
}

Buffer copy_ranges(std::initializer_list<std::pair<uint64_t, uint32_t>> ranges) {
  Buffer out(ranges.size() * kCopyRangeBytes);
  std::byte* at = out.data();
  for (auto [first, blocks] : ranges) {
    store_le<uint64_t>(at + 8, first);
    store_le<uint16_t>(at + 16, static_cast<uint16_t>(blocks - 1));
    at += kCopyRangeBytes;
  }
  return out;
}

TEST_F(TargetAbortTest, CopyGathersItsRangesEvenWhereTheyOverlap) {
  Buffer expected = memory;
  auto block = [](Buffer& of, size_t n) { return of.begin() + static_cast<ptrdiff_t>(n * 512); };
  std::copy(block(memory, 10), block(memory, 14), block(expected, 12));
  std::copy(block(memory, 12), block(memory, 13), block(expected, 16));
  Sqe copy = HostWire::io(IoOpcode::kCopy, 12, 2, 0, 1);  // two ranges to block 12
  copy.cdw12 |= kForceUnitAccess;
  queue->target.ios.clear();
  send(copy, copy_ranges({{10, 4}, {12, 1}}));
  EXPECT_EQ(answers(), (Answers{{1, NvmeStatus::kSuccess}}));
  EXPECT_EQ(memory, expected);
  ASSERT_EQ(queue->target.ios.size(), 3u);
  EXPECT_TRUE(queue->target.ios[2].fua);
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetAbortTest, CopyRefusesWhatItCannotDoWhole) {
  struct Case {
    const char* name;
    uint64_t to;
    Buffer ranges;
    NvmeStatus status;
  };
  constexpr uint64_t kEnd = kMemory / 512;
  const Case cases[] = {
      {"source beyond the end", 0, copy_ranges({{0, 1}, {kEnd - 1, 2}}),
       NvmeStatus::kLbaOutOfRange},
      {"destination beyond the end", kEnd - 1, copy_ranges({{0, 1}, {8, 1}}),
       NvmeStatus::kLbaOutOfRange},
      {"one range too long", 0, copy_ranges({{0, 2049}}), NvmeStatus::kCommandSizeLimit},
      {"too long together", 0, copy_ranges({{0, 2000}, {0, 49}}), NvmeStatus::kCommandSizeLimit},
  };
  Buffer before = memory;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    queue->seen.responses.clear();
    auto count = static_cast<uint32_t>(test.ranges.size() / kCopyRangeBytes);
    send(HostWire::io(IoOpcode::kCopy, test.to, count, 0, 1), test.ranges);
    EXPECT_EQ(answers(), (Answers{{1, final_status(test.status)}}));
  }
  queue->seen.responses.clear();
  Sqe format = HostWire::io(IoOpcode::kCopy, 0, 1, 0, 1);
  format.cdw12 |= 1u << 8;
  send(format, copy_ranges({{0, 1}}));
  EXPECT_EQ(queue->last().status, final_status(NvmeStatus::kInvalidField));
  send(HostWire::io(IoOpcode::kCopy, 0, 129, 0, 1), Buffer(129 * kCopyRangeBytes));
  EXPECT_EQ(queue->last().status, final_status(NvmeStatus::kCommandSizeLimit));
  EXPECT_EQ(memory, before);
}

TEST_F(TargetAbortTest, VerifyReadsAndSaysWhetherItCould) {
  queue->target.ios.clear();
  send(HostWire::io(IoOpcode::kVerify, 0, 64, 0, 1));
  ASSERT_EQ(queue->target.ios.size(), 1u);
  EXPECT_EQ(queue->target.ios[0].op, TargetOp::kRead);
  EXPECT_EQ(queue->target.ios[0].length_bytes, 32768u);
  queue->target.fails = Code::k_io_error;
  send(HostWire::io(IoOpcode::kVerify, 0, 64, 0, 2));
  queue->target.fails = Code::k_ok;
  send(HostWire::io(IoOpcode::kVerify, 0, 4096, 0, 3));  // beyond VSL
  EXPECT_EQ(answers(), (Answers{{1, NvmeStatus::kSuccess},
                                {2, NvmeStatus::kUnrecoveredReadError},
                                {3, final_status(NvmeStatus::kInvalidField)}}));
  Sqe uncorrectable = HostWire::io(IoOpcode::kRead, 0, 1, 0, 4);
  uncorrectable.opcode = 0x04;
  send(uncorrectable);
  EXPECT_EQ(queue->last().status, final_status(NvmeStatus::kInvalidOpcode));
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetAbortTest, WaitingForMemoryEndsForEverybody) {
  // More than the memory holds at once: Compare, Verify, Copy and fused pairs all wait and go on.
  queue->target.held = true;
  std::vector<uint16_t> ids;
  for (uint16_t i = 0; i < 24; ++i) {
    uint16_t id = static_cast<uint16_t>(0x100 + 2 * i);
    if (i % 4 == 0) send(HostWire::io(IoOpcode::kCompare, 0, 64, 32768, id));
    if (i % 4 == 1) send(HostWire::io(IoOpcode::kVerify, 0, 128, 0, id));
    if (i % 4 == 2) send(HostWire::io(IoOpcode::kCopy, 256, 1, 0, id), copy_ranges({{0, 128}}));
    if (i % 4 == 3) {
      Sqe first = HostWire::io(IoOpcode::kCompare, 0, 64, 32768, id);
      Sqe second = HostWire::io(IoOpcode::kWrite, 0, 64, 32768, static_cast<uint16_t>(id + 1));
      first.flags |= kFlagFuseFirst;
      second.flags |= kFlagFuseSecond;
      send(first);
      send(second);
    }
  }
  queue->target.held = false;
  for (size_t done = 0; done != queue->seen.r2ts.size();) {
    R2t next = queue->seen.r2ts[done++];
    queue->send(queue->wire.h2c(
        {.command_id = next.command_id, .transfer_tag = next.transfer_tag, .last = true},
        Buffer(next.length_bytes)));
  }
  queue->send({});
  EXPECT_EQ(queue->seen.responses.size(), 30u);
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetAbortTest, ANormalShutdownFlushesFirst) {
  NamespaceConfig more{.geometry = test::fake_geometry(1 << 20)};
  ASSERT_TRUE(core.add_namespace(test::kNqn, more).ok());
  host->target.held = true;
  auto get_csts = [&] {
    Sqe sqe{.opcode = 0x7f, .flags = kFlagSgl, .command_id = 9, .nsid = 4, .cdw11 = 0x1c};
    host->send(host->wire.capsule(sqe));
    return host->last().result;
  };
  host->send(
      host->wire.capsule(HostWire::property_set_cc(kCcEntrySizes | kCcEnable | kCcShutdownNormal)));
  EXPECT_EQ(get_csts(), kCstsReady | kCstsShutdownOccurring);
  host->target.ios.clear();
  host->target.held = false;
  host->send({});
  EXPECT_EQ(host->target.ios.size(), 2u);
  EXPECT_EQ(host->last().command_id, 1u);
  EXPECT_EQ(get_csts(), kCstsReady | kCstsShutdownDone);
}

TEST_F(TargetAbortTest, AResetEndsWhenNothingIsWithTheDevice) {
  queue->target.held = true;
  send(HostWire::io(IoOpcode::kWriteZeroes, 0, 8, 0, 4));
  auto writing = queue->target.queue.next_io();
  ASSERT_TRUE(writing);
  host->ask(HostWire::property_set_cc(kCcEntrySizes));
  EXPECT_TRUE(queue->target.queue.closing());
  Sqe csts{.opcode = 0x7f, .flags = kFlagSgl, .command_id = 9, .nsid = 4, .cdw11 = 0x1c};
  EXPECT_EQ(host->ask(csts).result, kCstsReady);
  queue->target.queue.on_io_done(*writing, Code::k_ok);
  EXPECT_EQ(host->ask(csts).result, 0u);
}

TEST_F(TargetAbortTest, FeaturesKnowTheirDefaults) {
  Sqe set = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b, 0);
  set.cdw11 = kEventConfigNamespace;
  EXPECT_EQ(host->ask(set).status, NvmeStatus::kSuccess);
  auto get = [&](uint32_t cdw10) {
    return host->ask(HostWire::admin(AdminOpcode::kGetFeatures, cdw10, 0));
  };
  EXPECT_EQ(get(0x0b).result, kEventConfigNamespace);
  EXPECT_EQ(get(0x0b | 1u << 8).result, 0u);
  EXPECT_EQ(get(0x0b | 2u << 8).result, 0u);
  EXPECT_EQ(get(0x0b | 3u << 8).result, 4u);
  EXPECT_EQ(get(0x0b | 4u << 8).status, final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(get(0x0c).status, final_status(NvmeStatus::kInvalidField));
  Sqe save = HostWire::admin(AdminOpcode::kSetFeatures, 0x0b | 1u << 31, 0);
  EXPECT_EQ(host->ask(save).status, final_status(NvmeStatus::kFeatureNotSaveable));
  auto discovery = admin({}, 0, std::string(kDiscoveryNqn));
  EXPECT_EQ(discovery->ask(HostWire::admin(AdminOpcode::kGetFeatures, 7, 0)).status,
            final_status(NvmeStatus::kInvalidField));
  EXPECT_EQ(discovery->ask(HostWire::admin(AdminOpcode::kGetFeatures, 0x0b, 0)).status,
            NvmeStatus::kSuccess);
}

}  // namespace
}  // namespace bb::io::nvme
