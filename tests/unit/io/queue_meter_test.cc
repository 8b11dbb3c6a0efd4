// SPDX-License-Identifier: Apache-2.0
#include "io/queue_meter.h"

#include <gtest/gtest.h>

namespace bb::io {
namespace {

struct Row {
  const char* what;
  uint64_t begun, submitted, answered, sent;  // submitted 0: it never reached the device
  uint64_t receive_ns, device_ns, send_ns;
};

class QueueMeterTable : public testing::TestWithParam<Row> {};

TEST_P(QueueMeterTable, StagesOfACommand) {
  const Row& row = GetParam();
  QueueMeter meter(4);
  FlightRecorder recorder(1);
  CommandTimes times{.begun_ns = 1, .submitted_ns = 2, .answered_ns = 3};  // of the one before
  meter.begin(times, row.begun);
  if (row.submitted != 0) meter.submit(times, row.submitted);
  meter.answer(times);
  meter.stamp(row.answered);
  meter.stamp(row.sent);  // later stamps are for later answers
  ASSERT_TRUE(meter.end(IoKind::kRead, 4096, true, times, row.sent, recorder));
  meter.end_batch();
  FlightRecord record = QueueMeter::record(times, row.sent);
  EXPECT_EQ(record.receive_ns, row.receive_ns) << row.what;
  EXPECT_EQ(record.device_ns, row.device_ns) << row.what;
  EXPECT_EQ(record.send_ns, row.send_ns) << row.what;
  EXPECT_EQ(record.total_ns, row.sent - row.begun);
  const IoStats::Kind& read = meter.stats().kind(IoKind::kRead);
  EXPECT_EQ(read.stage(IoStage::kReceive).sum(), row.receive_ns);
  EXPECT_EQ(read.stage(IoStage::kDevice).sum(), row.device_ns);
  EXPECT_EQ(read.stage(IoStage::kSend).sum(), row.send_ns);
  EXPECT_EQ(read.stage(IoStage::kTotal).sum(), record.total_ns);
  EXPECT_EQ(read.bytes, 4096u);
}

INSTANTIATE_TEST_SUITE_P(
    Commands, QueueMeterTable,
    testing::Values(Row{"all in one batch but the send", 100, 100, 100, 150, 0, 0, 50},
                    Row{"data that came late", 100, 900, 950, 1000, 800, 50, 50},
                    Row{"a slow device", 100, 110, 5110, 5120, 10, 5000, 10},
                    Row{"a slow reader", 100, 110, 120, 9120, 10, 10, 9000},
                    Row{"without the device", 100, 0, 130, 140, 30, 0, 10}));

TEST(QueueMeter, SeveralTripsToTheDeviceAreOneStage) {
  QueueMeter meter(1);
  CommandTimes times;
  meter.begin(times, 10);
  for (uint64_t at : {20u, 30u, 40u}) meter.submit(times, at);
  meter.answer(times);
  meter.stamp(100);
  EXPECT_EQ(QueueMeter::record(times, 100).device_ns, 80u);
}

TEST(QueueMeter, FailuresAreCountedApartAndAlwaysWorthARecord) {
  QueueMeter meter(1);
  FlightRecorder recorder;
  CommandTimes times;
  meter.begin(times, 10);
  meter.answer(times);
  meter.stamp(10);
  EXPECT_TRUE(meter.end(IoKind::kWrite, 512, false, times, 11, recorder));
  EXPECT_FALSE(meter.end(IoKind::kWrite, 512, true, times, 11, recorder));
  meter.end_batch();
  EXPECT_EQ(meter.stats().kind(IoKind::kWrite).errors, 1u);
  EXPECT_EQ(meter.stats().kind(IoKind::kWrite).count(), 1u);
  EXPECT_EQ(meter.stats().kind(IoKind::kWrite).bytes, 512u);
}

// The bar of what is slow rises with each record, within a batch, too.
TEST(QueueMeter, ABatchOfSlowCommandsIsNotRecordedWhole) {
  QueueMeter meter(128);
  FlightRecorder recorder;
  CommandTimes times{.begun_ns = 1, .submitted_ns = 1, .answered_ns = 1};
  const uint64_t sent_ns = 2 * FlightRecorder::kFloorNs;
  int records = 0;
  for (int i = 0; i < 128; ++i) {
    if (!meter.end(IoKind::kRead, 512, true, times, sent_ns, recorder)) continue;
    ++records;
    recorder.add({.ended_ns = sent_ns, .total_ns = sent_ns - 1});
  }
  meter.end_batch();
  EXPECT_EQ(records, 4);  // 1 ms, 1.25, 1.56, 1.95
  EXPECT_EQ(meter.stats().kind(IoKind::kRead).count(), 128u);
}

// Commands of one batch are counted together where they are alike, and only there.
TEST(QueueMeter, ABatchCountsAsItsCommandsOneByOne) {
  struct Ended {
    IoKind kind;
    uint64_t bytes;
    CommandTimes times;
  };
  const CommandTimes early{.begun_ns = 100, .submitted_ns = 110, .answered_ns = 200};
  const CommandTimes late{.begun_ns = 150, .submitted_ns = 160, .answered_ns = 200};
  const CommandTimes same_start{.begun_ns = 100, .submitted_ns = 160, .answered_ns = 200};
  const std::vector<Ended> batch = {
      {IoKind::kRead, 4096, early}, {IoKind::kRead, 512, early}, {IoKind::kWrite, 512, early},
      {IoKind::kRead, 4096, early}, {IoKind::kRead, 4096, late}, {IoKind::kRead, 1, same_start},
      {IoKind::kOther, 0, late},    {IoKind::kOther, 0, late},   {IoKind::kRead, 4096, early}};
  QueueMeter together(16);
  IoStats one_by_one;
  FlightRecorder recorder;
  for (uint64_t sent : {300u, 301u}) {  // two batches, of which the second begins as the first ends
    for (const Ended& each : batch) {
      together.end(each.kind, each.bytes, true, each.times, sent, recorder);
      one_by_one.succeeded(each.kind, 1, each.bytes, each.times, sent);
    }
    together.end_batch();
    together.end_batch();  // nothing is counted twice
  }
  for (IoKind kind : kIoKinds) {
    const IoStats::Kind& got = together.stats().kind(kind);
    const IoStats::Kind& wanted = one_by_one.kind(kind);
    EXPECT_EQ(got.bytes, wanted.bytes);
    for (IoStage stage : kIoStages) {
      EXPECT_EQ(got.stage(stage).sum(), wanted.stage(stage).sum());
      for (size_t i = 0; i < Histogram::kBuckets; ++i) {
        ASSERT_EQ(got.stage(stage).bucket(i), wanted.stage(stage).bucket(i)) << i;
      }
    }
  }
  EXPECT_EQ(together.stats().kind(IoKind::kRead).count(), 12u);
}

}  // namespace
}  // namespace bb::io
