// SPDX-License-Identifier: Apache-2.0
// Compare and Write: two commands that are one.
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kLong = 16384;  // does not fit into a capsule

struct Half {
  uint16_t id;
  uint64_t block = 0;
  uint32_t blocks = 1;
};

class TargetFusedTest : public TargetQueueTest {
 protected:
  TargetFusedTest() {
    host = admin();
    queue = io(*host);
    expected = Buffer(memory.begin(), memory.begin() + 512);
    queue->seen.responses.clear();
  }
  static Buffer capsule(const Link& link, IoOpcode opcode, uint8_t fuse, Half half,
                        ConstBytes data) {
    uint32_t length = data.empty() ? half.blocks * 512 : 0;
    Sqe sqe = HostWire::io(opcode, half.block, half.blocks, length, half.id);
    sqe.flags |= fuse;
    return link.wire.capsule(sqe, data);
  }
  Buffer first(Half half, ConstBytes data) {
    return capsule(*queue, IoOpcode::kCompare, kFlagFuseFirst, half, data);
  }
  Buffer second(Half half, ConstBytes data) {
    return capsule(*queue, IoOpcode::kWrite, kFlagFuseSecond, half, data);
  }
  NvmeStatus of(uint16_t id) {
    NvmeStatus found{0x7ff};
    int count = 0;
    for (const Cqe& one : queue->seen.responses) {
      if (one.command_id != id) continue;
      found = one.status;
      ++count;
    }
    EXPECT_LE(count, 1) << id;
    return found;
  }
  void data(uint16_t id, ConstBytes bytes) {
    for (const R2t& one : queue->seen.r2ts) {
      if (one.command_id != id) continue;
      queue->send(queue->wire.h2c(
          {.command_id = id, .transfer_tag = one.transfer_tag, .last = true}, bytes));
    }
  }
  bool unlocked() { return core.subsystems().at(test::kNqn)->find(1)->writes.idle(); }

  std::unique_ptr<Link> host;
  std::unique_ptr<Link> queue;
  Buffer expected;
  Buffer fresh = pattern(512, 9);
};

constexpr auto kOk = NvmeStatus::kSuccess;
const auto kFailed = final_status(NvmeStatus::kFailedFused);
const auto kMissing = final_status(NvmeStatus::kMissingFused);
const auto kUnequal = final_status(NvmeStatus::kCompareFailure);
const auto kBad = final_status(NvmeStatus::kInvalidField);
constexpr NvmeStatus kNothing{0x7ff};

TEST_F(TargetFusedTest, WritesWhatComparesEqualAndNothingElse) {
  for (bool together : {true, false}) {
    Buffer one = first({1}, expected);
    Buffer two = second({2}, fresh);
    if (together) {
      test::append(one, two);
      queue->send(one);
    } else {
      queue->send(one);
      EXPECT_EQ(of(1), kNothing);
      queue->send(two);
    }
    EXPECT_EQ(of(1), kOk);
    EXPECT_EQ(of(2), kOk);
    EXPECT_EQ(Buffer(memory.begin(), memory.begin() + 512), fresh);
    queue->seen.responses.clear();
    std::swap(expected, fresh);
  }
  Buffer wrong = pattern(512, 10);
  queue->send(first({1}, wrong));
  queue->send(second({2}, fresh));
  EXPECT_EQ(of(1), kUnequal);
  EXPECT_EQ(of(2), kFailed);
  EXPECT_EQ(Buffer(memory.begin(), memory.begin() + 512), expected);
  EXPECT_TRUE(unlocked());
}

TEST_F(TargetFusedTest, HalvesThatDoNotFit) {
  struct Case {
    const char* name;
    IoOpcode first;
    Half one;
    IoOpcode second;
    uint8_t fuse;
    Half two;
    NvmeStatus status_one, status_two;
  };
  constexpr uint8_t kFirst = kFlagFuseFirst, kSecond = kFlagFuseSecond;
  const Case cases[] = {
      {"another range", IoOpcode::kCompare, {1}, IoOpcode::kWrite, kSecond, {2, 1}, kBad, kBad},
      {"another length", IoOpcode::kCompare, {1}, IoOpcode::kWrite, kSecond, {2, 0, 2}, kBad, kBad},
      {"a second Compare", IoOpcode::kCompare, {1}, IoOpcode::kCompare, kSecond, {2}, kBad, kBad},
      {"Write first", IoOpcode::kWrite, {1}, IoOpcode::kWrite, kSecond, {2}, kBad, kFailed},
      {"no second", IoOpcode::kCompare, {1}, IoOpcode::kWrite, 0, {2}, kMissing, kOk},
      {"two firsts", IoOpcode::kCompare, {1}, IoOpcode::kCompare, kFirst, {2}, kMissing, kNothing},
      {"both marks", IoOpcode::kCompare, {1}, IoOpcode::kWrite, 3, {2}, kMissing, kBad},
      {"first beyond the end",
       IoOpcode::kCompare,
       {1, kMemory / 512},
       IoOpcode::kWrite,
       kSecond,
       {2},
       final_status(NvmeStatus::kLbaOutOfRange),
       kFailed},
      {"second beyond the end",
       IoOpcode::kCompare,
       {1},
       IoOpcode::kWrite,
       kSecond,
       {2, kMemory / 512},
       kFailed,
       final_status(NvmeStatus::kLbaOutOfRange)},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    Link link(core, memory);
    link.init();
    queue = io(*host, 2);
    queue->seen.responses.clear();
    Buffer before = memory;
    queue->send(capsule(*queue, test.first, kFlagFuseFirst, test.one,
                        Buffer(memory.begin(), memory.begin() + test.one.blocks * 512)));
    queue->send(capsule(*queue, test.second, test.fuse, test.two,
                        Buffer(memory.begin(), memory.begin() + test.two.blocks * 512)));
    EXPECT_EQ(of(1), test.status_one);
    EXPECT_EQ(of(2), test.status_two);
    EXPECT_EQ(memory, before);
    EXPECT_TRUE(unlocked());
    queue.reset();
  }
  queue = io(*host, 2);
  queue->seen.responses.clear();
  queue->send(second({2}, fresh));
  EXPECT_EQ(of(2), kMissing);
}

TEST_F(TargetFusedTest, AWriteOfAnotherControllerWaits) {
  auto other_host = admin();
  auto other = io(*other_host);
  Buffer third = pattern(512, 11);
  for (auto* link : {queue.get(), other.get()}) link->target.held = true;
  // The pair reads; the other's write of the same block may not reach the device, one beside may.
  queue->send(first({1}, expected));
  queue->send(second({2}, fresh));
  auto reading = queue->target.queue.next_io();
  ASSERT_TRUE(reading);
  other->send(other->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 1, 0, 5), third));
  other->send(other->wire.capsule(HostWire::io(IoOpcode::kWriteZeroes, 8, 1, 0, 6)));
  auto beside = other->target.queue.next_io();
  ASSERT_TRUE(beside);
  EXPECT_EQ(other->target.queue.io(*beside).op, TargetOp::kWriteZeroes);
  EXPECT_FALSE(other->target.queue.next_io());
  std::memcpy(queue->target.queue.io(*reading).data, memory.data(), 512);
  queue->target.queue.on_io_done(*reading, Code::k_ok);
  auto writing = queue->target.queue.next_io();
  ASSERT_TRUE(writing);
  EXPECT_EQ(queue->target.queue.io(*writing).op, TargetOp::kWrite);
  EXPECT_FALSE(other->target.queue.next_io());
  int wakes = other->target.wakes;
  queue->target.queue.on_io_done(*writing, Code::k_ok);
  EXPECT_GT(other->target.wakes, wakes);
  auto then = other->target.queue.next_io();
  ASSERT_TRUE(then);
  // And the other way round: a pair waits for a write that is under way.
  queue->send(first({3}, expected));
  queue->send(second({4}, fresh));
  EXPECT_FALSE(queue->target.queue.next_io());
  other->target.queue.on_io_done(*then, Code::k_ok);
  other->target.queue.on_io_done(*beside, Code::k_ok);
  auto again = queue->target.queue.next_io();
  ASSERT_TRUE(again);
  queue->target.queue.on_io_done(*again, Code::k_io_error);
  queue->send({});
  EXPECT_EQ(of(1), kOk);
  EXPECT_EQ(of(2), kOk);
  EXPECT_EQ(of(3), NvmeStatus::kUnrecoveredReadError);
  EXPECT_EQ(of(4), kFailed);
  EXPECT_TRUE(unlocked());
}

TEST_F(TargetFusedTest, DataBehindR2TsInAnyOrder) {
  Buffer have(memory.begin(), memory.begin() + kLong);
  Buffer put = pattern(kLong, 12);
  uint16_t id = 1;
  for (bool compare_first : {true, false}) {
    queue->send(first({id, 0, 32}, {}));
    queue->send(second({uint16_t(id + 1), 0, 32}, {}));
    data(compare_first ? id : uint16_t(id + 1), compare_first ? have : put);
    EXPECT_EQ(of(id), kNothing);
    data(compare_first ? uint16_t(id + 1) : id, compare_first ? put : have);
    EXPECT_EQ(of(id), kOk);
    EXPECT_EQ(of(uint16_t(id + 1)), kOk);
    std::swap(have, put);
    id = static_cast<uint16_t>(id + 2);
  }
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetFusedTest, AbortEndsBothHalves) {
  auto abort = [&](uint16_t id) {
    Sqe sqe = HostWire::admin(AdminOpcode::kAbort, 1u | (uint32_t{id} << 16), 0);
    Cqe done = host->ask(sqe);
    queue->send({});
    return done.result == 0;
  };
  queue->target.held = true;
  // With nothing but the first half here.
  queue->send(first({1}, expected));
  EXPECT_TRUE(abort(1));
  EXPECT_EQ(of(1), NvmeStatus::kAbortRequested);
  queue->send(second({2}, fresh));
  EXPECT_EQ(of(2), kFailed);
  // Both ready.
  queue->send(first({3}, expected));
  queue->send(second({4}, fresh));
  EXPECT_TRUE(abort(4));
  EXPECT_EQ(of(3), kFailed);
  EXPECT_EQ(of(4), NvmeStatus::kAbortRequested);
  // While it reads: nothing is written after that.
  queue->send(first({5}, expected));
  queue->send(second({6}, fresh));
  auto reading = queue->target.queue.next_io();
  ASSERT_TRUE(reading);
  EXPECT_TRUE(abort(5));
  std::memcpy(queue->target.queue.io(*reading).data, memory.data(), 512);
  queue->target.queue.on_io_done(*reading, Code::k_ok);
  queue->send({});
  EXPECT_EQ(of(5), NvmeStatus::kAbortRequested);
  EXPECT_EQ(of(6), kFailed);
  // While it writes: too late.
  queue->send(first({7}, expected));
  queue->send(second({8}, fresh));
  reading = queue->target.queue.next_io();
  ASSERT_TRUE(reading);
  std::memcpy(queue->target.queue.io(*reading).data, memory.data(), 512);
  queue->target.queue.on_io_done(*reading, Code::k_ok);
  auto writing = queue->target.queue.next_io();
  ASSERT_TRUE(writing);
  EXPECT_FALSE(abort(7));
  EXPECT_FALSE(abort(8));
  queue->target.queue.on_io_done(*writing, Code::k_ok);
  queue->send({});
  EXPECT_EQ(of(7), kOk);
  EXPECT_EQ(of(8), kOk);
  EXPECT_TRUE(unlocked());
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetFusedTest, RangesAreLetGoWhenTheQueueCloses) {
  auto other_host = admin();
  auto other = io(*other_host);
  other->target.held = queue->target.held = true;
  queue->send(first({1}, expected));
  queue->send(second({2}, fresh));
  other->send(other->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 1, 0, 5), fresh));
  EXPECT_FALSE(other->target.queue.next_io());
  queue->target.queue.close("the stream ended");
  auto then = other->target.queue.next_io();
  ASSERT_TRUE(then);
  // A closed queue holds what its device still has.
  auto third_host = admin();
  auto third = io(*third_host);
  third->target.held = true;
  third->send(capsule(*third, IoOpcode::kCompare, kFlagFuseFirst, {3}, expected));
  third->send(capsule(*third, IoOpcode::kWrite, kFlagFuseSecond, {4}, fresh));
  EXPECT_FALSE(third->target.queue.next_io());
  other->target.queue.close("the stream ended");
  EXPECT_FALSE(third->target.queue.next_io());
  other->target.queue.on_io_done(*then, Code::k_ok);
  auto reading = third->target.queue.next_io();
  ASSERT_TRUE(reading);
  third->target.queue.close("the stream ended");
  EXPECT_FALSE(unlocked());
  third->target.queue.on_io_done(*reading, Code::k_ok);
  EXPECT_TRUE(unlocked());
}

}  // namespace
}  // namespace bb::io::nvme
