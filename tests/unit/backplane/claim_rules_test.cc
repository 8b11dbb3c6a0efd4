// SPDX-License-Identifier: Apache-2.0
#include "backplane/claim_rules.h"

#include <gtest/gtest.h>

namespace bb::backplane {
namespace {

const Uuid kUs = Uuid::parse("0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0").value();
const Uuid kThem = Uuid::parse("aaaaaaaa-4b5a-4978-8796-a5b4c3d2e1f0").value();
const Uuid kDb = Uuid::parse("a0a1a2a3-a4a5-46a7-a8a9-aaabacadaeaf").value();
const Uuid kLog = Uuid::parse("b0a1a2a3-a4a5-46a7-a8a9-aaabacadaeaf").value();

Claim owned(uint64_t epoch) {
  return {.owned = true,
          .owner = kUs,
          .owner_name = "dp-1",
          .host_nqn = host_nqn(kUs),
          .epoch = epoch,
          .array = kDb,
          .array_name = "db"};
}

ClaimRequest request(Uuid owner, uint64_t epoch, Uuid array = kDb) {
  return {.owner = owner,
          .owner_name = owner == kUs ? "dp-1" : "dp-2",
          .host_nqn = host_nqn(owner),
          .epoch = epoch,
          .array = array,
          .array_name = array == kDb ? "db" : "log"};
}

TEST(ClaimRules, Claim) {
  ClaimRequest no_host = request(kUs, 1), other_host = request(kUs, 3), long_name = request(kUs, 1);
  no_host.host_nqn = "";
  other_host.host_nqn = host_nqn(kThem);
  long_name.owner_name = std::string(65, 'x');
  struct Case {
    const char* name;
    Claim now;
    ClaimRequest request;
    Code code;
    const char* text;
    bool changed, fence;
    uint64_t epoch;
  };
  const Case cases[] = {
      {"free", {}, request(kUs, 1), Code::k_ok, "", true, true, 1},
      {"free, any first epoch", {}, request(kUs, 9), Code::k_ok, "", true, true, 9},
      {"take over", owned(3), request(kUs, 4), Code::k_ok, "", true, true, 4},
      {"the same again", owned(3), request(kUs, 3), Code::k_ok, "", false, false, 3},
      {"older", owned(3), request(kUs, 2), Code::k_fenced, "claimed with epoch 3", 0, 0, 0},
      {"another owner", owned(3), request(kThem, 9), Code::k_busy, "owned by \"dp-1\"", 0, 0, 0},
      {"another array", owned(3), request(kUs, 4, kLog), Code::k_busy, "array \"db\"", 0, 0, 0},
      {"another host", owned(3), other_host, Code::k_busy, "needs a higher epoch", 0, 0, 0},
      {"epoch 0", {}, request(kUs, 0), Code::k_invalid_argument, "epoch 0", 0, 0, 0},
      {"no owner", {}, request(Uuid{}, 1), Code::k_invalid_argument, "no owner", 0, 0, 0},
      {"no host", {}, no_host, Code::k_invalid_argument, "no host NQN", 0, 0, 0},
      {"long name", {}, long_name, Code::k_invalid_argument, "65 bytes (max 64)", 0, 0, 0},
  };
  for (const Case& one : cases) {
    Result<ClaimDecision> decision = decide_claim(one.now, one.request);
    EXPECT_EQ(decision.code(), one.code) << one.name;
    if (!decision.ok()) {
      EXPECT_NE(decision.status().text().find(one.text), std::string::npos)
          << one.name << ": " << decision.status().text();
      continue;
    }
    EXPECT_EQ(decision->changed, one.changed) << one.name;
    EXPECT_EQ(decision->fence, one.fence) << one.name;
    EXPECT_TRUE(decision->next.owned) << one.name;
    EXPECT_EQ(decision->next.epoch, one.epoch) << one.name;
  }
}

TEST(ClaimRules, Release) {
  struct Case {
    const char* name;
    Claim now;
    ReleaseRequest request;
    Code code;
    bool changed;
  };
  const Case cases[] = {
      {"free", {}, {.owner = kUs, .epoch = 1}, Code::k_ok, false},
      {"ours", owned(3), {.owner = kUs, .array = kDb, .epoch = 3}, Code::k_ok, true},
      {"another array's",
       owned(3),
       {.owner = kUs, .array = kLog, .epoch = 3},
       Code::k_permission_denied,
       false},
      {"ours, older", owned(3), {.owner = kUs, .array = kDb, .epoch = 2}, Code::k_fenced, false},
      {"theirs", owned(3), {.owner = kThem, .epoch = 9}, Code::k_permission_denied, false},
      {"forced", owned(3), {.owner = kThem, .force = true}, Code::k_ok, true},
  };
  for (const Case& one : cases) {
    Result<ClaimDecision> decision = decide_release(one.now, one.request);
    EXPECT_EQ(decision.code(), one.code) << one.name;
    if (!decision.ok()) continue;
    EXPECT_EQ(decision->changed, one.changed) << one.name;
    EXPECT_EQ(decision->fence, one.changed) << one.name;
    EXPECT_FALSE(decision->next.owned) << one.name;
  }
}

TEST(ClaimRules, Connect) {
  const std::vector<std::string> permitted = {"nqn.2026-11.example:admin"};
  struct Case {
    const char* name;
    Claim now;
    std::string host;
    HostId id;
    Code code;
  };
  const Case cases[] = {
      {"free, permitted", {}, permitted[0], {}, Code::k_ok},
      {"free, not permitted", {}, host_nqn(kUs), {}, Code::k_permission_denied},
      {"owner", owned(3), host_nqn(kUs), encode_host_id(kUs, 3), Code::k_ok},
      {"owner, older", owned(3), host_nqn(kUs), encode_host_id(kUs, 2), Code::k_fenced},
      {"owner, not yet", owned(3), host_nqn(kUs), encode_host_id(kUs, 4),
       Code::k_permission_denied},
      {"permitted, but owned", owned(3), permitted[0], encode_host_id(kUs, 3),
       Code::k_permission_denied},
      {"another host", owned(3), host_nqn(kThem), encode_host_id(kUs, 3),
       Code::k_permission_denied},
      {"another's id", owned(3), host_nqn(kUs), encode_host_id(kThem, 3),
       Code::k_permission_denied},
      {"no id", owned(3), host_nqn(kUs), {}, Code::k_permission_denied},
  };
  for (const Case& one : cases) {
    Status status = decide_connect(one.now, permitted, {.host_nqn = one.host, .host_id = one.id});
    EXPECT_EQ(status.ok() ? Code::k_ok : status.code(), one.code) << one.name;
  }
}

TEST(ClaimRules, HostIdCarriesOwnerAndEpoch) {
  HostId id = encode_host_id(kUs, 0x0102030405060708);
  const uint8_t expected[16] = {0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x49, 0x78,
                                1,    2,    3,    4,    5,    6,    7,    8};
  EXPECT_EQ(0, memcmp(id.data(), expected, sizeof expected));
}

}  // namespace
}  // namespace bb::backplane
