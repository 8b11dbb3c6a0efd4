// SPDX-License-Identifier: Apache-2.0
#include "backplane/query.h"

#include <gtest/gtest.h>

#include <set>

#include "base/prng.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

// Four disk nodes with mixed drives; the uuid's last digits tell which is which.
DriveRecord drive(int number, const char* node, const char* slot, const char* model,
                  uint64_t capacity, const char* refusal = "") {
  DriveRecord record;
  record.uuid = Uuid::parse(fmt::format("00000000-0000-4000-8000-{:012}", number)).value();
  record.serial = fmt::format("SN{}", number);
  record.model = model;
  record.capacity_bytes = capacity;
  record.block_size_bytes = 4096;
  record.slot = slot;
  record.enclosure = node;
  record.disk_node = node;
  record.domain = node;
  record.refusal = refusal;
  return record;
}

std::vector<DriveRecord> inventory() {
  return {drive(0, "n1", "0", "fast", GiB),      drive(1, "n1", "1", "fast", GiB),
          drive(2, "n1", "10", "slow", 4 * GiB), drive(3, "n2", "0", "fast", GiB),
          drive(4, "n2", "1", "slow", 4 * GiB),  drive(5, "n3", "0", "fast", GiB, "owned by dp-2"),
          drive(6, "n3", "2", "fast", GiB),      drive(7, "n4", "0", "slow", 4 * GiB)};
}

struct ChooseCase {
  const char* query;
  uint32_t count;
  bool spread;
  const char* chosen;  // serial numbers without SN, or "" when impossible
  const char* error;
};

class ChooseDrives : public testing::TestWithParam<ChooseCase> {};

TEST_P(ChooseDrives, Table) {
  const std::vector<DriveRecord> drives = inventory();
  Result<Query> query = Query::parse(GetParam().query);
  ASSERT_TRUE(query.ok()) << query.status().to_string();
  Choice choice;
  Status status = choose_drives(*query, drives,
                                {.count = GetParam().count, .spread = GetParam().spread}, &choice);
  std::string chosen;
  for (size_t index : choice.chosen)
    chosen += (chosen.empty() ? "" : " ") + drives[index].serial.substr(2);
  EXPECT_EQ(chosen, GetParam().chosen) << status.to_string();
  if (*GetParam().error != '\0') {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), Code::k_no_space);
    EXPECT_NE(status.text().find(GetParam().error), std::string::npos) << status.text();
  }
  // Everyone who was not chosen (or, without a choice, not the best try) has a reason.
  for (const Refused& refused : choice.refused) EXPECT_FALSE(refused.reason.empty());
  if (status.ok()) {
    EXPECT_EQ(choice.refused.size() + choice.chosen.size(), drives.size());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, ChooseDrives,
    testing::Values(
        ChooseCase{"", 2, false, "0 1", ""}, ChooseCase{"", 3, true, "0 3 6", ""},
        ChooseCase{"unique domain", 3, false, "0 3 6", ""},
        ChooseCase{"unique disk_node unique slot", 2, false, "0 6", ""},
        // The first pick of a greedy search (slot 0 of n1) leaves no third: it must go back.
        ChooseCase{"select model=fast unique disk_node unique slot", 3, false, "1 3 6", ""},
        ChooseCase{"select model=slow", 3, true, "2 4 7", ""},
        ChooseCase{"select capacity=2GiB-1TB", 2, true, "2 4", ""},
        ChooseCase{"select capacity=4GiB", 1, false, "2", ""},
        ChooseCase{"select slot=1-10", 1, false, "1", ""},
        ChooseCase{"select slot=10,1 select disk_node=n2", 1, false, "4", ""},
        ChooseCase{"reject slot=0", 3, false, "", "needs 3 drives, found 2 of 8 visible"},
        ChooseCase{"from disk_node=n2 from disk_node=n4 select model=s*", 2, true, "4 7", ""},
        ChooseCase{"select id=drv-*0003", 1, false, "3", ""},
        ChooseCase{"select serial=SN6,SN3", 2, false, "3 6", ""},
        ChooseCase{"select block_size=512", 1, false, "",
                   "found 0 of 8 visible; refused: 8 select block_size=512"},
        ChooseCase{"", 4, true, "", "needs 4 drives with unique domain, found 3 of 8 visible; "},
        ChooseCase{"select domain=n3", 2, false, "", "1 owned by dp-2"},
        ChooseCase{"", 9, false, "", "found 4"}));

TEST(Query, BadClauses) {
  struct Case {
    const char *query, *text;
  };
  for (Case one :
       {Case{"selct model=a", "unknown clause \"selct\"; did you mean \"select\"?"},
        Case{"select modle=a", "unknown key \"modle\"; did you mean \"model\"?"},
        Case{"select wear=1", "unknown key \"wear\""},
        Case{"select model", "\"model\" is not KEY=VALUE"}, Case{"select model=", "an empty value"},
        Case{"select model=a,,b", "an empty"}, Case{"select capacity=big", "\"big\" is not a size"},
        Case{"select capacity=2G-1G", "ends before it starts"},
        Case{"select slot=5-2", "ends before it starts"},
        Case{"unique colour", "unknown key \"colour\""},
        Case{"select", "nothing follows \"select\""}}) {
    Result<Query> query = Query::parse(one.query);
    ASSERT_FALSE(query.ok()) << one.query;
    EXPECT_EQ(query.code(), Code::k_invalid_argument);
    EXPECT_NE(query.status().text().find(one.text), std::string::npos) << query.status().text();
  }
  std::string many;
  for (int i = 0; i < 65; ++i) many += "unique slot ";
  EXPECT_EQ(Query::parse(many).code(), Code::k_invalid_argument);
}

TEST(Query, TextRoundTrip) {
  const std::string text = "from slot=0-3,7 select model=a* reject serial=x,y unique domain";
  EXPECT_EQ(Query::parse(text).value().to_string(), text);
}

TEST(Query, Globs) {
  struct Case {
    const char *glob, *text;
    bool matches;
  };
  for (Case one : {Case{"*", "", true}, Case{"a*c", "abc", true}, Case{"a*c", "ac", true},
                   Case{"a*c", "abd", false}, Case{"*a*b", "xxaayb", true}, Case{"a", "ab", false},
                   Case{"", "", true}, Case{"**x", "x", true}, Case{"a*b*c", "a-b-b-c", true}})
    EXPECT_EQ(glob_matches(one.glob, one.text), one.matches) << one.glob << " " << one.text;
}

// Over random inventories: a choice always obeys the query, and none is missed with one unique key.
TEST(Query, RandomInventories) {
  Prng prng(1);
  for (int run = 0; run < 500; ++run) {
    std::vector<DriveRecord> drives;
    uint64_t count = prng.below(16);
    for (uint64_t i = 0; i < count; ++i) {
      std::string node = fmt::format("n{}", prng.below(5)), slot = std::to_string(i);
      drives.push_back(drive(static_cast<int>(i), node.c_str(), slot.c_str(), "m",
                             (1 + prng.below(2)) * GiB, prng.chance(4) ? "in use" : ""));
    }
    uint32_t wanted = static_cast<uint32_t>(1 + prng.below(4));
    Choice choice;
    Status status =
        choose_drives(Query::parse("reject slot=3").value(), drives, {wanted, true}, &choice);
    std::map<uint64_t, std::set<std::string>> domains;
    for (const DriveRecord& one : drives)
      if (one.refusal.empty() && one.slot != "3") domains[one.capacity_bytes].insert(one.domain);
    bool possible = false;
    for (const auto& [capacity, names] : domains) possible = possible || names.size() >= wanted;
    ASSERT_EQ(status.ok(), possible) << "run " << run << ": " << status.to_string();
    std::set<std::string> used;
    for (size_t index : choice.chosen) {
      EXPECT_TRUE(drives[index].refusal.empty());
      EXPECT_NE(drives[index].slot, "3");
      EXPECT_EQ(drives[index].capacity_bytes, drives[choice.chosen[0]].capacity_bytes);
      EXPECT_TRUE(used.insert(drives[index].domain).second);
    }
  }
}

}  // namespace
}  // namespace bb::backplane
