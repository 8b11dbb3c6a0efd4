// SPDX-License-Identifier: Apache-2.0
#include "io/stats_report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/prng.h"
#include "base/units.h"
#include "io/prometheus.h"

namespace bb::io {
namespace {

ObjectStats sample() {
  ObjectStats object{.type = "connection",
                     .name = "nvme-tcp 127.0.0.1:5000",
                     .labels = {{"export", "nqn.x"}, {"host", "h\\\"\n"}},
                     .in_flight = 3,
                     .events = {{"digest_errors", 2}}};
  Prng prng(1);
  for (uint64_t i = 0; i < 1000; ++i) {
    uint64_t begun = i * 1000;
    CommandTimes times{.begun_ns = begun,
                       .submitted_ns = begun + prng.below(1000),
                       .answered_ns = begun + 1000 + prng.below(1'000'000)};
    object.io.succeeded(IoKind::kRead, 1, 4096, times, times.answered_ns + prng.below(5000));
  }
  object.io.failed(IoKind::kWrite);
  return object;
}

TEST(StatsReport, WhatIsEncodedComesBack) {
  ObjectStats object = sample();
  Json json = encode_object(object, true);
  auto back = decode_object(json);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(encode_object(*back, true), json);
  EXPECT_EQ(back->io.kind(IoKind::kRead).count(), 1000u);
  EXPECT_EQ(back->io.errors(), 1u);
}

TEST(StatsReport, StagesAddUpToTheTotal) {
  ObjectStats object = sample();
  const IoStats::Kind& read = object.io.kind(IoKind::kRead);
  EXPECT_EQ(read.stage(IoStage::kReceive).sum() + read.stage(IoStage::kDevice).sum() +
                read.stage(IoStage::kSend).sum(),
            read.stage(IoStage::kTotal).sum());
}

TEST(StatsReport, QuantilesWithoutBucketsAndNothingForWhatNeverHappened) {
  Json json = encode_object(sample(), false);
  const Json& total = json["read"]["latency"]["total"];
  EXPECT_FALSE(total.contains("buckets"));
  EXPECT_LE(total["p50_ns"], total["p99_ns"]);
  EXPECT_LE(total["p999_ns"], total["max_ns"]);
  EXPECT_TRUE(json["other"]["latency"].empty());
  EXPECT_EQ(json["write"]["errors"], 1);
}

TEST(StatsReport, WhatADaemonAnswersMayBeWrong) {
  const Json good = encode_object(sample(), true);
  auto broken = [&](const char* pointer, Json value) {
    Json json = good;
    json[Json::json_pointer(pointer)] = std::move(value);
    return decode_object(json);
  };
  for (auto& result : {broken("/type", 1), broken("/read", "x"), broken("/read/bytes", -1),
                       broken("/read/latency/total/buckets", Json::array({1})),
                       broken("/read/latency/total/buckets/0/0", UINT64_MAX),
                       broken("/read/latency/total/sum_ns", "x"), broken("/labels", 5)}) {
    EXPECT_EQ(result.code(), Code::k_invalid_argument);
  }
  EXPECT_EQ(decode_object(Json::array()).code(), Code::k_invalid_argument);
}

TEST(StatsReport, RecordsOfManyRecordersComeNewestFirstWithTheirTime) {
  FlightRecorder first(1);
  FlightRecorder second(1);
  first.add({.op = "read", .object = "a", .status = "ok", .ended_ns = 10, .total_ns = 5});
  second.add({.op = "write", .object = "b", .status = "ok", .ended_ns = 20, .total_ns = 6});
  first.add({.op = "read", .object = "a", .status = "ok", .ended_ns = 30, .total_ns = 7});
  first.add({.op = "read", .object = "a", .failed = true, .status = "x", .ended_ns = 1});
  StatsReport report{.taken_ns = 2'000'000'030, .wall_ns = 1'793'491'200ull * kNsPerSecond};
  report.add_records(first);
  report.add_records(second);
  report.sort_records();
  Json slow = encode_records(report.slow, report);
  ASSERT_EQ(slow.size(), 3u);
  EXPECT_EQ(slow[0]["total_ns"], 7);
  EXPECT_EQ(slow[1]["object"], "b");
  EXPECT_EQ(slow[0]["ended"], "2026-10-31T23:59:58.000Z");
  EXPECT_EQ(encode_records(report.failed, report).size(), 1u);
}

TEST(Prometheus, TextOfOneObject) {
  std::string text = encode_prometheus({sample()});
  for (const char* line :
       {"# TYPE bb_connection_commands_total counter\n",
        "bb_connection_commands_total{connection=\"nvme-tcp 127.0.0.1:5000\",export=\"nqn.x\","
        "host=\"h\\\\\\\"\\n\",op=\"read\"} 1000\n",
        "op=\"write\"} 1\n", "event=\"digest_errors\"} 2\n",
        "# TYPE bb_connection_latency_seconds histogram\n", "le=\"0.000008191\"} ",
        "stage=\"total\",le=\"+Inf\"} 1000\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(text.find("op=\"write\",stage"), std::string::npos);
}

TEST(Prometheus, EachFamilyIsIntroducedOnceHoweverManyObjects) {
  ObjectStats device{.type = "device", .name = "mem:1M"};
  ObjectStats other{.type = "device", .name = "mem:2M"};
  std::string text = encode_prometheus({device, sample(), other});
  size_t at = text.find("# TYPE bb_device_commands_total");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(text.find("# TYPE bb_device_commands_total", at + 1), std::string::npos);
  EXPECT_EQ(encode_prometheus({}), "");
}

}  // namespace
}  // namespace bb::io
