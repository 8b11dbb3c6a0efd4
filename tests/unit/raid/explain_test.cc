// SPDX-License-Identifier: Apache-2.0
#include "raid/explain.h"

#include <gtest/gtest.h>

namespace bb::raid {
namespace {

ArrayInfo array_of(const char* raid) {
  Shape shape = *parse_shape(raid, 0);
  ArrayInfo info;
  info.state = "online";
  info.level = shape.level->id;
  info.slots = shape.members;
  info.copies = shape.copies;
  info.chunk_bytes = shape.chunk_bytes;
  info.regions = 100;
  info.region_size_bytes = 64 * KiB;
  for (uint32_t slot = 0; slot < shape.members; ++slot) {
    info.members.push_back({.slot = slot, .label = fmt::format("n{}/0", slot), .present = true});
  }
  return info;
}

std::string first(const ArrayInfo& info) { return explain(info).at(0); }

TEST(Explain, HowManyMoreMayBeLost) {
  EXPECT_EQ(first(array_of("1.2")),
            "2 of 2 members of this RAID 1.2 are in-sync: 1 more may be lost, whichever it is.");
  EXPECT_EQ(first(array_of("6.6")),
            "6 of 6 members of this RAID 6.6 are in-sync: 2 more may be lost, whichever they are.");
  EXPECT_EQ(first(array_of("1.5")),
            "5 of 5 members of this RAID 1.5 are in-sync: at least 3 more may be lost, whichever "
            "they are.");
  EXPECT_EQ(first(array_of("0.2")),
            "2 of 2 members of this RAID 0.2 are in-sync: none of those it needs may be lost.");
  ArrayInfo ten = array_of("10.4");
  ten.members[1].state = MemberState::kFailed;
  EXPECT_EQ(first(ten),
            "3 of 4 members of this RAID 10.4 are in-sync: none of those it needs may be lost.");
  ten.members[0].suspect = true;
  EXPECT_EQ(first(ten),
            "2 of 4 members of this RAID 10.4 are in-sync, and they do not hold everything.");
}

TEST(Explain, SaysWhatIsAmissAndWhatHappensNext) {
  ArrayInfo info = array_of("1.3");
  EXPECT_EQ(explain(info).size(), 1u);
  info.members[0].state = MemberState::kFailed;
  info.members[0].generation = 7;
  info.members[0].detail = "the connection was lost";
  info.members[1].state = MemberState::kRecovering;
  info.members[1].behind_bytes = 3 * MiB;
  info.members[2].checksum_errors = 4;
  info.dirty_regions = 5;
  info.left_out = {"n9/0: stale"};
  std::vector<std::string> text = explain(info);
  ASSERT_EQ(text.size(), 6u);
  EXPECT_EQ(
      text[1].substr(0, 89),
      "Member 0 n0/0 has failed, since version 7 of the membership: the connection was lost. Wha");
  EXPECT_NE(text[2].find("3MiB that it lacks are being copied onto it"), std::string::npos)
      << text[2];
  EXPECT_NE(text[3].find("returned 4 blocks"), std::string::npos) << text[3];
  EXPECT_EQ(
      text[4],
      "5 of 100 regions are marked in the bitmap: they are kept until all members have them.");
  EXPECT_EQ(text[5], "Left out at the start: n9/0: stale");
  info.state = "fenced";
  EXPECT_EQ(explain(info).size(), 1u);
}

}  // namespace
}  // namespace bb::raid
