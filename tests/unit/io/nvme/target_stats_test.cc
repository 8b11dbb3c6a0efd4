// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

const Histogram& stage(const Link& link, IoKind kind, IoStage which) {
  return link.target.queue.stats().kind(kind).stage(which);
}

// The data of a write comes behind an R2T, in two parts: that time is the network's.
TEST_F(TargetQueueTest, ReceiveLastsUntilAllDataIsThere) {
  auto control = admin();
  auto queue = io(*control);
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 64, 32768, 9)), 100);
  ASSERT_EQ(queue->seen.r2ts.size(), 1u);
  Buffer data = pattern(32768);
  for (uint32_t at : {0u, 16384u}) {
    queue->send(queue->wire.h2c({.command_id = 9,
                                 .transfer_tag = queue->seen.r2ts[0].transfer_tag,
                                 .offset_bytes = at,
                                 .last = at != 0},
                                ConstBytes(data).subspan(at, 16384)),
                500 + at);
  }
  EXPECT_EQ(stage(*queue, IoKind::kWrite, IoStage::kReceive).sum(), 500 + 16384 - 100u);
  EXPECT_EQ(stage(*queue, IoKind::kWrite, IoStage::kDevice).sum(), 0u);
  EXPECT_EQ(queue->target.queue.stats().kind(IoKind::kWrite).bytes, 32768u);
  EXPECT_EQ(queue->target.queue.stats().kind(IoKind::kWrite).count(), 1u);
}

TEST_F(TargetQueueTest, TheDeviceStageEndsWithTheAnswerAndSendWithTheSocket) {
  auto control = admin();
  auto link = io(*control);
  TargetQueue& queue = link->target.queue;
  link->target.held = true;
  link->send(link->wire.capsule(HostWire::io(IoOpcode::kRead, 8, 8, 4096)), 1000);
  auto slot = queue.next_io();
  ASSERT_TRUE(slot);
  queue.pass_time(5'001'000);
  queue.on_io_done(*slot, Code::k_ok);
  ASSERT_NE(queue.outgoing(), nullptr);
  queue.pass_time(5'001'300);
  queue.on_sent();
  EXPECT_EQ(stage(*link, IoKind::kRead, IoStage::kReceive).sum(), 0u);
  EXPECT_EQ(stage(*link, IoKind::kRead, IoStage::kDevice).sum(), 5'000'000u);
  EXPECT_EQ(stage(*link, IoKind::kRead, IoStage::kSend).sum(), 300u);
  auto slow = core.recorder.slow_records();
  ASSERT_EQ(slow.size(), 1u);
  EXPECT_EQ(slow[0].op, "read");
  EXPECT_EQ(slow[0].object, test::kNqn);
  EXPECT_EQ(slow[0].host, test::kHostNqn);
  EXPECT_EQ(slow[0].nsid, 1u);
  EXPECT_EQ(slow[0].offset_bytes, 4096u);
  EXPECT_EQ(slow[0].length_bytes, 4096u);
  EXPECT_EQ(slow[0].device_ns, 5'000'000u);
  EXPECT_EQ(slow[0].total_ns, 5'000'300u);
}

TEST_F(TargetQueueTest, RefusedAndFailedCommandsAreRecordedWithTheirStatus) {
  auto control = admin();
  auto queue = io(*control);
  queue->ask(HostWire::io(IoOpcode::kRead, kMemory / 512, 8, 4096));  // beyond the end
  queue->target.fails = Code::k_io_error;
  queue->ask(HostWire::io(IoOpcode::kRead, 16, 8, 4096));
  const IoStats& stats = queue->target.queue.stats();
  EXPECT_EQ(stats.kind(IoKind::kRead).errors, 2u);
  EXPECT_EQ(stats.kind(IoKind::kRead).count(), 0u);
  auto failed = core.recorder.failed_records();
  ASSERT_EQ(failed.size(), 2u);
  EXPECT_EQ(failed[0].offset_bytes, 8192u);
  EXPECT_NE(failed[0].status.find("0x281"), std::string::npos) << failed[0].status;
  EXPECT_NE(failed[1].status.find("0x080"), std::string::npos) << failed[1].status;
}

TEST_F(TargetQueueTest, ConnectAndAdminCommandsAreNoIo) {
  auto control = admin();
  auto queue = io(*control);
  for (Link* each : {control.get(), queue.get()}) {
    for (IoKind kind : kIoKinds) EXPECT_EQ(each->target.queue.stats().kind(kind).count(), 0u);
  }
  queue->ask(HostWire::io(IoOpcode::kFlush, 0, 1, 0));
  EXPECT_EQ(queue->target.queue.stats().kind(IoKind::kOther).count(), 1u);
}

}  // namespace
}  // namespace bb::io::nvme
