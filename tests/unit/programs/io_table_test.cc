// SPDX-License-Identifier: Apache-2.0
#include "common/io_table.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace bb::program {
namespace {

io::ObjectStats device(const char* name, uint64_t reads, uint64_t each_ns) {
  io::ObjectStats object{.type = "device", .name = name};
  for (uint64_t i = 0; i < reads; ++i) object.io.succeeded(io::IoKind::kRead, 1, 4096, each_ns);
  return object;
}

TEST(IoTable, RatesAndLatenciesAreOfTheTimeBetweenTheLooks) {
  io::ObjectStats before = device("mem:1M", 1000, 10 * kNsPerMs);  // long ago, and slow
  io::ObjectStats now = before;
  for (int i = 0; i < 200; ++i) now.io.succeeded(io::IoKind::kRead, 1, 4096, 20 * kNsPerUs);
  for (int i = 0; i < 100; ++i) now.io.succeeded(io::IoKind::kWrite, 1, 1000, 40 * kNsPerUs);
  now.io.failed(io::IoKind::kWrite);
  now.in_flight = 7;
  auto rows = io_rows({.taken_ns = 5 * kNsPerSecond, .objects = {before}},
                      {.taken_ns = 7 * kNsPerSecond, .objects = {now}}, false);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_DOUBLE_EQ(rows[0].reads_per_s, 100);
  EXPECT_DOUBLE_EQ(rows[0].writes_per_s, 50);
  EXPECT_DOUBLE_EQ(rows[0].bytes_per_s, (200 * 4096 + 100 * 1000) / 2.0);
  EXPECT_NEAR(static_cast<double>(rows[0].p50_ns), 20'000, 20'000 / 32.0);
  EXPECT_NEAR(static_cast<double>(rows[0].p99_ns), 40'000, 40'000 / 32.0);
  EXPECT_EQ(rows[0].queue, 7u);
  EXPECT_EQ(rows[0].errors, 1u);
}

TEST(IoTable, BusiestFirstAndConnectionsApart) {
  io::ObjectStats connection{.type = "connection",
                             .name = "nvme-tcp 1.2.3.4:5",
                             .labels = {{"export", "e"}, {"host", "nqn.host"}}};
  IoLook before{.taken_ns = 1};
  IoLook now{.taken_ns = 1 + kNsPerSecond,
             .objects = {device("b", 1, 1), device("a", 0, 1), device("c", 9, 1), connection}};
  auto rows = io_rows(before, now, false);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].object + rows[1].object + rows[2].object, "cba");
  rows = io_rows(before, now, true);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].host, "nqn.host");
}

TEST(IoTable, ADaemonThatBeganAnewIsCountedFromZero) {
  auto rows = io_rows({.taken_ns = 9 * kNsPerSecond, .objects = {device("d", 500, 10)}},
                      {.taken_ns = 10 * kNsPerSecond, .objects = {device("d", 20, 10)}}, false);
  EXPECT_DOUBLE_EQ(rows[0].reads_per_s, 20);
}

TEST(IoTable, ForPeopleAndForPrograms) {
  std::vector<IoRow> rows = {{.object = "mem:1M",
                              .reads_per_s = 123456.7,
                              .bytes_per_s = 12.5e6,
                              .p50_ns = 12'300,
                              .p99_ns = 4'500'000,
                              .p999_ns = 0,
                              .queue = 3}};
  EXPECT_EQ(render_io_rows(rows, false, OutputFormat::kTable),
            "Object  r/s     w/s  MB/s  p50     p99     p99.9  Queue  Errors\n"
            "------  ------  ---  ----  ------  ------  -----  -----  ------\n"
            "mem:1M  123457  0    12.5  12.3us  4.50ms  -      3      0\n");
  std::string json = render_io_rows(rows, false, OutputFormat::kJson);
  for (const char* part : {"\"reads_per_s\": 123456.7", "\"bytes_per_s\": 12500000.0",
                           "\"p99_ns\": 4500000", "\"queue\": 3"}) {
    EXPECT_NE(json.find(part), std::string::npos) << json;
  }
}

TEST(IoTable, Latencies) {
  struct Row {
    uint64_t ns;
    const char* text;
  };
  for (const Row& row :
       {Row{0, "0ns"}, Row{999, "999ns"}, Row{1000, "1.00us"}, Row{12'340, "12.3us"},
        Row{850'000, "850us"}, Row{1'500'000, "1.50ms"}, Row{61'000'000'000, "61.0s"}}) {
    EXPECT_EQ(format_latency(row.ns), row.text);
  }
}

}  // namespace
}  // namespace bb::program
