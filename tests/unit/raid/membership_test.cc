// SPDX-License-Identifier: Apache-2.0
#include "raid/membership.h"

#include <gtest/gtest.h>

#include <functional>

namespace bb::raid {
namespace {

Uuid id(uint8_t n) {
  Uuid uuid;
  uuid.bytes[0] = std::byte{n};
  return uuid;
}

MembershipRecord three() {
  MembershipRecord record;
  record.array = id(100);
  record.name = "db";
  record.version = 5;
  record.epoch = 3;
  record.slots = record.copies = 4;
  record.size_bytes = record.member_bytes = 1 << 20;
  record.region_size_bytes = 65536;
  record.members = {{.uuid = id(1), .state = MemberState::kInSync, .generation = 1},
                    {.uuid = id(2), .state = MemberState::kRecovering, .generation = 4, .slot = 1},
                    {.uuid = id(3), .state = MemberState::kFailed, .generation = 5, .slot = 2}};
  return record;
}

struct Case {
  const char* name;
  std::function<void(MembershipRecord&)> edit;
  const char* refused;  // a part of the text; null: lawful
};

TEST(MembershipRecord, NamesAreFitForKeysAndUris) {
  for (const char* bad : {"a/b", "a b", "a?b", "a:b", "\xc3\xa9"}) {
    MembershipRecord record = three();
    record.name = bad;
    EXPECT_EQ(validate_record(record).code(), Code::k_invalid_argument) << bad;
  }
}

TEST(Membership, Transitions) {
  const Case cases[] = {
      {"nothing", [](auto&) {}, nullptr},
      {"recovered", [](auto& r) { set_member_state(r, id(2), MemberState::kInSync); }, nullptr},
      {"readmitted", [](auto& r) { set_member_state(r, id(3), MemberState::kRecovering); },
       nullptr},
      {"recovering fails", [](auto& r) { set_member_state(r, id(2), MemberState::kFailed); },
       nullptr},
      {"failed removed", [](auto& r) { set_member_state(r, id(3), MemberState::kRemoved); },
       nullptr},
      {"new member",
       [](auto& r) {
         r.members.push_back({.uuid = id(4),
                              .state = MemberState::kRecovering,
                              .generation = r.version,
                              .slot = 3});
       },
       nullptr},
      {"the last in-sync fails", [](auto& r) { set_member_state(r, id(1), MemberState::kFailed); },
       "no member is in-sync"},
      {"the last in-sync is replaced in one step",
       [](auto& r) {
         set_member_state(r, id(1), MemberState::kFailed);
         set_member_state(r, id(2), MemberState::kInSync);
       },
       "the last in-sync member cannot be removed"},
      {"failed to in-sync", [](auto& r) { set_member_state(r, id(3), MemberState::kInSync); },
       "cannot go from failed to in-sync"},
      {"in-sync to recovering",
       [](auto& r) { set_member_state(r, id(1), MemberState::kRecovering); },
       "no member is in-sync"},
      {"version jumps", [](auto& r) { ++r.version; }, "follows version 5"},
      {"epoch falls", [](auto& r) { r.epoch = 2; }, "epoch 2 follows 3"},
      {"size changes", [](auto& r) { r.size_bytes = r.member_bytes *= 2; }, "never change"},
      {"member vanishes", [](auto& r) { r.members.pop_back(); }, "vanished while failed"},
      {"member twice", [](auto& r) { r.members.push_back(r.members[0]); }, "listed twice"},
      {"state without generation", [](auto& r) { r.members[1].state = MemberState::kFailed; },
       "is failed since 4, but was recovering since 4"},
      {"new member in-sync",
       [](auto& r) { r.members.push_back({.uuid = id(4), .generation = r.version, .slot = 3}); },
       "must begin as recovering"},
      {"slot changes", [](auto& r) { r.members[0].slot = 3; }, "moved from slot 0 to 3"},
      {"no such slot", [](auto& r) { r.members[0].slot = 4; }, "slot 4, and there are 4"},
      {"slot twice", [](auto& r) { r.members[0].slot = 1; }, "members 0 and 1 have slot 1"},
      {"another shape", [](auto& r) { r.slots = r.copies = 5; }, "never change"},
      {"no name", [](auto& r) { r.name.clear(); }, "a name of 0 bytes"},
  };
  for (const Case& c : cases) {
    MembershipRecord after = three();
    ++after.version;
    c.edit(after);
    Status status = validate_transition(three(), after);
    EXPECT_EQ(status.ok(), c.refused == nullptr) << c.name << ": " << status.to_string();
    if (c.refused != nullptr && !status.ok()) {
      EXPECT_NE(status.text().find(c.refused), std::string::npos)
          << c.name << ": " << status.text();
    }
  }
}

// Four members in pairs: one of each pair has to stay, whatever else happens.
TEST(Membership, TheMembersThatStayHoldEverything) {
  MembershipRecord before = three();
  before.level = RaidLevel::k10;
  before.slots = 4;
  before.copies = 2;
  before.chunk_bytes = 65536;
  before.size_bytes = 2 * before.member_bytes;
  before.members.clear();
  for (uint8_t i = 0; i < 4; ++i) before.members.push_back({.uuid = id(i + 1), .slot = i});
  ASSERT_TRUE(validate_record(before).ok()) << validate_record(before).to_string();
  for (uint32_t failing = 0; failing < 16; ++failing) {
    MembershipRecord after = before;
    ++after.version;
    for (uint8_t i = 0; i < 4; ++i) {
      if ((failing >> i & 1) != 0) set_member_state(after, id(i + 1), MemberState::kFailed);
    }
    bool both_of_a_pair = (failing & 3) == 3 || (failing & 12) == 12;
    EXPECT_EQ(validate_transition(before, after).ok(), !both_of_a_pair) << failing;
  }
  MembershipRecord wrong = before;
  wrong.size_bytes += 65536;
  EXPECT_NE(validate_record(wrong).text().find("make 2097152"), std::string::npos)
      << validate_record(wrong).text();
}

TEST(Membership, RemovedIsFinalAndOldestRemovedMakesRoom) {
  MembershipRecord before = three();
  before.members[2].state = MemberState::kRemoved;
  MembershipRecord after = before;
  ++after.version;
  set_member_state(after, id(3), MemberState::kRecovering);
  EXPECT_FALSE(validate_transition(before, after).ok());

  MembershipRecord full = three();
  for (uint8_t i = 10; full.members.size() < kMembersListedMax; ++i) {
    full.members.push_back({.uuid = id(i), .state = MemberState::kRemoved, .generation = i});
  }
  make_room_for_member(full);
  EXPECT_EQ(full.members.size(), kMembersListedMax - 1);
  EXPECT_EQ(full.find(id(10)), nullptr);
}

TEST(Membership, NamesOfStates) {
  for (MemberState state : {MemberState::kInSync, MemberState::kRecovering, MemberState::kFailed,
                            MemberState::kRemoved}) {
    EXPECT_EQ(member_state_from_name(member_state_name(state)), state);
  }
  EXPECT_EQ(member_state_from_name("insync"), std::nullopt);
}

}  // namespace
}  // namespace bb::raid
