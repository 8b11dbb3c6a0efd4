// SPDX-License-Identifier: Apache-2.0
#include "io/device_meter.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/units.h"
#include "io/device_uri.h"
#include "support/world.h"

namespace bb::io {
namespace {

// A loop whose clock we turn by hand.
class HandLoop final : public Loop {
 public:
  uint64_t now = kNsPerSecond;
  uint64_t now_ns() const override { return now; }
  uint64_t wall_ns() const override { return now; }
  Prng& prng() override { return prng_; }
  void post(Work&) override {}
  void post_remote(Work&) override {}
  void arm(Timer&, uint64_t) override {}
  void disarm(Timer&) override {}
  bool run_once(bool) override { return false; }

 private:
  Prng prng_{1};
};

// Answers when told to.
class HandDevice final : public Device {
 public:
  HandDevice() {
    info_.uri = "hand:";
    info_.size_bytes = 1 << 20;
  }
  Task<Status> close() override { co_return Status(); }
  void answer(Status status) {
    IoRequest* request = waiting_.front();
    waiting_.pop_front();
    request->done(request, std::move(status));
  }

 private:
  void do_submit(IoRequest& request) override { waiting_.push_back(&request); }
  std::deque<IoRequest*> waiting_;
};

struct Asked : IoRequest {
  int done_count = 0;
  Status status;
  iovec one{};
  std::byte bytes[4096];
  Asked(IoOp what, uint64_t offset, uint64_t length) {
    op = what;
    offset_bytes = offset;
    length_bytes = length;
    one = {.iov_base = bytes, .iov_len = length};
    if (what == IoOp::kRead || what == IoOp::kWrite) iov = &one, iov_count = 1;
    done = answered;
  }
  static void answered(IoRequest* request, Status result) {
    auto* self = static_cast<Asked*>(request);
    ++self->done_count;
    self->status = std::move(result);
  }
};

TEST(DeviceMeter, CountsTimesAndGivesTheRequestBackAsItWas) {
  HandLoop loop;
  HandDevice device;
  device.measure(loop);
  const DeviceMeter& meter = *device.meter();
  Asked read(IoOp::kRead, 0, 4096);
  Asked write(IoOp::kWrite, 4096, 512);
  Asked flush(IoOp::kFlush, 0, 0);
  for (Asked* each : {&read, &write, &flush}) device.submit(*each);
  EXPECT_EQ(meter.in_flight(), 3u);
  for (uint64_t each : {100u, 200u, 300u}) {
    loop.now += each;
    device.answer(Status());
  }
  for (Asked* each : {&read, &write, &flush}) {
    EXPECT_EQ(each->done_count, 1);
    EXPECT_EQ(each->done, &Asked::answered);
  }
  EXPECT_EQ(meter.in_flight(), 0u);
  struct Row {
    IoKind kind;
    uint64_t bytes;
    uint64_t total_ns;
  };
  for (const Row& row : {Row{IoKind::kRead, 4096, 100}, Row{IoKind::kWrite, 512, 300},
                         Row{IoKind::kOther, 0, 600}}) {
    const IoStats stats = meter.stats();
    const IoStats::Kind& kind = stats.kind(row.kind);
    EXPECT_EQ(kind.count(), 1u);
    EXPECT_EQ(kind.bytes, row.bytes);
    EXPECT_EQ(kind.stage(IoStage::kTotal).sum(), row.total_ns);
  }
  device.submit(read);  // the same request again, as pools of requests do
  device.answer(Status());
  EXPECT_EQ(read.done_count, 2);
  EXPECT_EQ(meter.stats().kind(IoKind::kRead).count(), 2u);
}

// Requests are counted by the number where they are alike: in any order the same must come out.
TEST(DeviceMeter, RequestsThatComeTogetherAreAllCounted) {
  HandLoop loop;
  HandDevice device;
  device.measure(loop);
  std::deque<Asked> all;
  Histogram wanted;
  for (int round = 0; round < 4; ++round) {
    for (IoOp op : {IoOp::kRead, IoOp::kRead, IoOp::kWrite, IoOp::kRead}) {
      device.submit(all.emplace_back(op, 0, 512));
    }
    uint64_t took_ns = round == 3 ? 40 * kNsPerMs : 100;  // the last are slow
    loop.now += took_ns;
    for (int i = 0; i < 4; ++i) device.answer(Status());
    for (int i = 0; i < 3; ++i) wanted.record(took_ns);
    EXPECT_EQ(device.meter()->stats().kind(IoKind::kRead).count(), wanted.count());
  }
  const IoStats stats = device.meter()->stats();
  const Histogram& reads = stats.kind(IoKind::kRead).stage(IoStage::kTotal);
  for (size_t i = 0; i < Histogram::kBuckets; ++i) ASSERT_EQ(reads.bucket(i), wanted.bucket(i));
  EXPECT_EQ(reads.sum(), wanted.sum());
  EXPECT_EQ(stats.kind(IoKind::kRead).bytes, 12 * 512u);
  EXPECT_EQ(stats.kind(IoKind::kWrite).count(), 4u);
  EXPECT_EQ(device.meter()->recorder().slow_records().size(), 4u);
}

TEST(DeviceMeter, FailuresAreCountedApartAndRecordedWithTheirStatus) {
  HandLoop loop;
  HandDevice device;
  device.measure(loop);
  Asked write(IoOp::kWrite, 8192, 4096);
  device.submit(write);
  loop.now += 5;
  device.answer(error(Code::k_io_error, "the head fell off"));
  EXPECT_EQ(write.status.code(), Code::k_io_error);
  EXPECT_EQ(device.meter()->stats().kind(IoKind::kWrite).errors, 1u);
  EXPECT_EQ(device.meter()->stats().kind(IoKind::kWrite).count(), 0u);
  EXPECT_EQ(device.meter()->stats().kind(IoKind::kWrite).bytes, 0u);
  auto failed = device.meter()->recorder().failed_records();
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].op, "write");
  EXPECT_EQ(failed[0].object, "hand:");
  EXPECT_EQ(failed[0].offset_bytes, 8192u);
  EXPECT_EQ(failed[0].length_bytes, 4096u);
  EXPECT_EQ(failed[0].status, "the head fell off [io_error]");
  EXPECT_EQ(failed[0].total_ns, 5u);
}

TEST(DeviceMeter, ASlowRequestIsRecorded) {
  HandLoop loop;
  HandDevice device;
  device.measure(loop);
  Asked quick(IoOp::kRead, 0, 512);
  Asked slow(IoOp::kRead, 512, 512);
  device.submit(quick);
  device.answer(Status());
  device.submit(slow);
  loop.now += 30 * kNsPerMs;
  device.answer(Status());
  auto records = device.meter()->recorder().slow_records();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].offset_bytes, 512u);
  EXPECT_EQ(records[0].total_ns, 30 * kNsPerMs);
  EXPECT_EQ(records[0].status, "ok");
}

TEST(DeviceMeter, ARequestThatIsWrongIsNobodysLatency) {
  HandLoop loop;
  HandDevice device;
  device.measure(loop);
  Asked beyond(IoOp::kRead, 1 << 20, 512);
  device.submit(beyond);
  EXPECT_EQ(beyond.status.code(), Code::k_invalid_argument);
  EXPECT_EQ(device.meter()->in_flight(), 0u);
  EXPECT_EQ(device.meter()->stats().errors(), 0u);
}

TEST(DeviceMeter, EveryDeviceOpenedByUriIsMeasuredAndTheOneInsideItToo) {
  test::World world;
  auto opened = world.run(
      open_device(world.context, "fault:mem:1M?latency=20ms&latency_chance=1&range=0-4096"));
  ASSERT_TRUE(opened.ok());
  Device& device = **opened;
  auto io = [](Device* to, std::vector<std::byte>* bytes) -> Task<Status> {
    BB_CO_TRY(co_await to->read(0, *bytes));
    co_return co_await to->write(8192, *bytes);
  };
  std::vector<std::byte> bytes(4096);
  ASSERT_TRUE(world.run(io(&device, &bytes)).ok());
  const IoStats& stats = device.meter()->stats();
  EXPECT_GE(stats.kind(IoKind::kRead).stage(IoStage::kTotal).max(), 19 * kNsPerMs);
  EXPECT_EQ(stats.kind(IoKind::kWrite).count(), 1u);
  ASSERT_GE(device.meter()->recorder().slow_records().size(), 1u);
  EXPECT_EQ(device.meter()->recorder().slow_records().back().op, "read");
  ASSERT_TRUE(world.run(device.close()).ok());
}

}  // namespace
}  // namespace bb::io
