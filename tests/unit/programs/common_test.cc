// SPDX-License-Identifier: Apache-2.0
#include "common/output.h"

#include <gtest/gtest.h>

#include <csignal>

#include "common/command_line.h"
#include "common/failure.h"
#include "common/progress.h"
#include "common/stop_signals.h"
#include "io/reactor.h"

namespace bb::program {
namespace {

TEST(Table, HeaderRuleGuttersAndEmptyCells) {
  Table table({{"Name", 1}, "Capacity", "Used by"});
  table.add({"db", Cell::size(34359738368), Cell()});
  table.add({"a-long-name", Cell::size(1000), "fast-a"});
  EXPECT_EQ(table.render(OutputFormat::kTable),
            "Name[1]      Capacity  Used by\n"
            "-----------  --------  -------\n"
            "db           32GiB     -\n"
            "a-long-name  1KB       fast-a\n");
}

TEST(Table, EmptyListSaysNone) {
  Table table({"Name"});
  EXPECT_EQ(table.render(OutputFormat::kTable), "(none)\n");
  EXPECT_EQ(table.render(OutputFormat::kJson), "[]\n");
}

TEST(Table, JsonCarriesNumbersAndByteKeys) {
  Table table({"Name", "Capacity", "Used by", "Ready"});
  table.add({"db", Cell::size(4096), Cell(), Cell::boolean(true)});
  EXPECT_EQ(table.render(OutputFormat::kJson),
            "[\n  {\n    \"name\": \"db\",\n    \"capacity_bytes\": 4096,\n"
            "    \"used_by\": null,\n    \"ready\": true\n  }\n]\n");
}

TEST(Record, TitleAndAlignedFields) {
  Record record("Created disk db1");
  record.add("account", "sales");
  record.add("capacity", Cell::size(34359738368));
  record.add("label", "");
  EXPECT_EQ(record.render(OutputFormat::kTable),
            "== Created disk db1\naccount   sales\ncapacity  32GiB\nlabel     -\n");
  EXPECT_EQ(
      record.render(OutputFormat::kJson),
      "{\n  \"account\": \"sales\",\n  \"capacity_bytes\": 34359738368,\n  \"label\": \"\"\n}\n");
}

TEST(Failure, TwoLinesOrOneObject) {
  Status status = error(Code::k_not_found, "disk \"db1\": none of 3 has that label");
  EXPECT_EQ(render_failure("bb", status, "bb disk list", OutputFormat::kTable),
            "bb: error: disk \"db1\": none of 3 has that label [not_found]\nhint: bb disk list\n");
  EXPECT_EQ(render_failure("bb", status, "", OutputFormat::kTable),
            "bb: error: disk \"db1\": none of 3 has that label [not_found]\n"
            "hint: name something that exists\n");
  EXPECT_EQ(render_failure("bb", error(Code::k_busy, "x"), "y", OutputFormat::kJson),
            "{\n  \"program\": \"bb\",\n  \"code\": \"busy\",\n  \"detail\": \"x\",\n"
            "  \"hint\": \"y\"\n}\n");
}

TEST(CommandLine, WrongArgumentsEndWithTwo) {
  CLI::App app("test", "bb-test");
  int number = 0;
  app.add_option("--number", number);
  char name[] = "bb-test";
  char good[] = "--number=3";
  char bad[] = "--numbers=3";
  char* good_line[] = {name, good, nullptr};
  char* bad_line[] = {name, bad, nullptr};
  EXPECT_FALSE(parse_command_line(app, 2, good_line).has_value());
  EXPECT_EQ(number, 3);
  testing::internal::CaptureStderr();
  EXPECT_EQ(parse_command_line(app, 2, bad_line), 2);
  std::string text = testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("bb-test: error: "), std::string::npos) << text;
  EXPECT_NE(text.find("--numbers=3"), std::string::npos) << text;
  EXPECT_NE(text.find("[invalid_argument]\nhint: bb-test --help\n"), std::string::npos) << text;
}

TEST(CommandLine, LogLevels) {
  EXPECT_EQ(*parse_log_level("warn"), LogLevel::kWarn);
  EXPECT_EQ(parse_log_level("loud").code(), Code::k_invalid_argument);
}

TEST(Progress, ShowsShareRateAndRest) {
  EXPECT_EQ(render_progress("copy", 512 << 20, 1 << 30, 4'000'000'000),
            "copy  [############............]   50%  512MiB of 1.0GiB  128MiB/s  4s left");
  EXPECT_EQ(render_progress("copy", 0, 0, 0), "copy  [########################]  100%  0B of 0B");
}

io::Task<void> wait_for_stop(StopSignals* signals) { co_await signals->stop().wait(); }

TEST(StopSignals, ATermSignalSetsTheEvent) {
  auto reactor = std::move(io::Reactor::create()).value();
  StopSignals signals(*reactor);
  raise(SIGTERM);
  reactor->block_on(wait_for_stop(&signals));
  EXPECT_TRUE(signals.stop().is_set());
}

}  // namespace
}  // namespace bb::program
