// SPDX-License-Identifier: Apache-2.0
#include "backplane/node_report.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "backplane/array_book.h"

namespace bb::backplane {
namespace {

const Uuid kUs = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value();

NodeReport sample() {
  NodeReport report{.name = "n1", .domain = "rack-1", .enclosure = "e1", .nvme = {"127.0.0.1:1"}};
  report.drives.push_back({.uuid = kUs,
                           .serial = "S",
                           .model = "M",
                           .slot = "0",
                           .capacity_bytes = 1u << 30,
                           .block_size_bytes = 4096,
                           .state = "online",
                           .claim = {.owned = true,
                                     .owner = kUs,
                                     .owner_name = "dp",
                                     .host_nqn = host_nqn(kUs),
                                     .epoch = 3,
                                     .array = kUs,
                                     .array_name = "db"}});
  report.refused.push_back({"1", "file:/x", "in use"});
  return report;
}

TEST(NodeReport, RoundTrip) {
  Result<NodeReport> back = decode_node_report(encode_node_report(sample()));
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(back->name, "n1");
  ASSERT_EQ(back->drives.size(), 1u);
  EXPECT_EQ(back->drives[0].claim, sample().drives[0].claim);
  EXPECT_EQ(back->drives[0].capacity_bytes, 1u << 30);
  ASSERT_EQ(back->refused.size(), 1u);
  EXPECT_EQ(back->refused[0].reason, "in use");
}

TEST(NodeReport, RefusesWhatADiskNodeMayNotSay) {
  struct Case {
    const char* name;
    void (*change)(Json*);
    Code code;
  };
  for (const Case& one :
       {Case{"protocol", [](Json* j) { (*j)["protocol"] = 2; }, Code::k_not_supported},
        Case{"no name", [](Json* j) { j->erase("name"); }, Code::k_invalid_argument},
        Case{"long name", [](Json* j) { (*j)["name"] = std::string(65, 'x'); },
             Code::k_invalid_argument},
        Case{"drives", [](Json* j) { (*j)["drives"] = "none"; }, Code::k_invalid_argument},
        Case{"drive id", [](Json* j) { (*j)["drives"][0]["id"] = "drv-1"; },
             Code::k_invalid_argument},
        Case{"claim", [](Json* j) { (*j)["drives"][0]["claim"]["state"] = "lent"; },
             Code::k_invalid_argument},
        Case{"epoch", [](Json* j) { (*j)["drives"][0]["claim"]["epoch"] = -1; },
             Code::k_invalid_argument},
        Case{"address", [](Json* j) { (*j)["nvme"][0] = 7; }, Code::k_invalid_argument},
        Case{"many",
             [](Json* j) {
               for (int i = 0; i < 300; ++i) (*j)["drives"].push_back(1);
             },
             Code::k_invalid_argument}}) {
    Json json = encode_node_report(sample());
    one.change(&json);
    EXPECT_EQ(decode_node_report(json).code(), one.code) << one.name;
  }
  EXPECT_EQ(decode_node_report(Json(3)).code(), Code::k_invalid_argument);
}

TEST(NodeReport, Requests) {
  ClaimRequest claim{.owner = kUs,
                     .owner_name = "dp",
                     .host_nqn = host_nqn(kUs),
                     .epoch = 3,
                     .array = kUs,
                     .array_name = "db"};
  Result<DriveClaimRequest> back = decode_claim_request(encode_claim_request(kUs, claim));
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(back->drive, kUs);
  EXPECT_EQ(back->claim.epoch, 3u);
  EXPECT_EQ(back->claim.array_name, "db");
  Json extra = encode_claim_request(kUs, claim);
  extra["epohc"] = 1;
  EXPECT_EQ(decode_claim_request(extra).code(), Code::k_invalid_argument);
  ReleaseRequest release{.owner = kUs, .array = kUs, .epoch = 4, .force = true};
  Result<DriveReleaseRequest> freed = decode_release_request(encode_release_request(kUs, release));
  ASSERT_TRUE(freed.ok());
  EXPECT_EQ(freed->release.epoch, 4u);
  EXPECT_EQ(freed->release.array, kUs);
  EXPECT_TRUE(freed->release.force);
}

TEST(ArrayRecord, RoundTripAndDamage) {
  ArrayRecord record{.uuid = kUs,
                     .name = "db",
                     .phase = ArrayPhase::kReady,
                     .epoch = 7,
                     .shape = *raid::parse_shape("10.6.3", 4096),
                     .query = "select model=a",
                     .spread = false,
                     .drives = {{kUs, "b1", "n1/0", true}}};
  std::string text = dump_json(encode_array_record(record));
  Result<ArrayRecord> back = decode_array_record(text);
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(*back, record);
  EXPECT_EQ(back->drives[0].label(), "n1/0 " + drive_id(kUs));
  Json odd = encode_array_record(record);
  odd["phase"] = "sleeping";
  EXPECT_EQ(decode_array_record(dump_json(odd)).code(), Code::k_corrupt);
  EXPECT_EQ(decode_array_record(text.substr(0, text.size() / 2)).code(), Code::k_invalid_argument);
}

}  // namespace
}  // namespace bb::backplane
