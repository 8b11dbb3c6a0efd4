// SPDX-License-Identifier: Apache-2.0
// The pure rules of several paths: which one is taken, what may go again, what must wait.
#include <gtest/gtest.h>

#include "base/units.h"
#include "io/nvme/ana.h"
#include "io/nvme/nvme_options.h"
#include "io/nvme/path_policy.h"
#include "io/nvme/retry_rule.h"
#include "io/nvme/unsettled.h"

namespace bb::io::nvme {
namespace {

struct Paths {
  explicit Paths(size_t count) : loads(count) {
    for (PathLoad& load : loads) {
      load = {.usable = true, .capacity = 4};
      pointers.push_back(&load);
    }
  }
  std::vector<PathLoad> loads;
  std::vector<PathLoad*> pointers;
  std::string choose(PathChooser& chooser, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) {
      auto chosen = chooser.choose(pointers);
      text += chosen ? std::to_string(*chosen) : "-";
    }
    return text;
  }
};

TEST(PathChooser, RoundRobinPassesOverWhatCannot) {
  Paths paths(3);
  PathChooser chooser(PathPolicy::kRoundRobin);
  EXPECT_EQ(paths.choose(chooser, 6), "012012");
  paths.loads[1].usable = false;
  EXPECT_EQ(paths.choose(chooser, 4), "0202");
  paths.loads[2].in_flight = 4;  // full
  EXPECT_EQ(paths.choose(chooser, 2), "00");
  paths.loads[0].usable = false;
  EXPECT_EQ(paths.choose(chooser, 1), "-");
}

TEST(PathChooser, NonOptimizedPathsOnlyWhenNoOptimizedIsUsable) {
  for (PathPolicy policy :
       {PathPolicy::kRoundRobin, PathPolicy::kLatency, PathPolicy::kActivePassive}) {
    Paths paths(3);
    PathChooser chooser(policy);
    paths.loads[0].optimized = paths.loads[1].optimized = false;
    EXPECT_EQ(paths.choose(chooser, 3), "222") << path_policy_name(policy);
    paths.loads[2].in_flight = 4;  // full, and still better
    EXPECT_EQ(paths.choose(chooser, 1), "-") << path_policy_name(policy);
    paths.loads[2].usable = false;
    EXPECT_NE(paths.choose(chooser, 1), "-") << path_policy_name(policy);
  }
}

TEST(PathChooser, ActivePassiveStaysWithTheFirst) {
  Paths paths(2);
  PathChooser chooser(PathPolicy::kActivePassive);
  paths.loads[0].in_flight = 3;
  EXPECT_EQ(paths.choose(chooser, 3), "000");
  paths.loads[0].in_flight = 4;
  EXPECT_EQ(paths.choose(chooser, 1), "-");  // waits for it
  paths.loads[0].usable = false;
  EXPECT_EQ(paths.choose(chooser, 2), "11");
}

TEST(PathChooser, LatencyCountsWhatIsAheadAndTriesASlowPathAgain) {
  Paths paths(2);
  PathChooser chooser(PathPolicy::kLatency);
  paths.loads[0].note_latency(100'000);
  paths.loads[1].note_latency(1'000'000);
  EXPECT_EQ(paths.choose(chooser, 8), "00000000");
  paths.loads[1].latency_ns = 300'000;
  paths.loads[0].in_flight = 3;  // 400 against 300
  EXPECT_EQ(paths.choose(chooser, 1), "1");
  paths.loads[0].in_flight = 0;
  std::string chosen = paths.choose(chooser, 2000);
  EXPECT_NE(chosen.find('1'), std::string::npos);
}

TEST(PathChooser, LatencyIsSmoothed) {
  PathLoad load;
  load.note_latency(800);
  load.note_latency(1600);
  EXPECT_EQ(load.latency_ns, 900u);
}

TEST(RetryRule, Table) {
  struct Case {
    Outcome outcome;
    Verdict of_read;
    Verdict of_write;
  };
  auto answered = [](NvmeStatus status) { return Outcome{.status = status}; };
  for (const Case& c : {
           Case{{}, Verdict::kDone, Verdict::kDone},
           {{.lost = true, .sent = true}, Verdict::kElsewhere, Verdict::kHold},
           {{.lost = true, .sent = false}, Verdict::kElsewhere, Verdict::kElsewhere},
           {{.digest_error = true}, Verdict::kAgain, Verdict::kAgain},
           {answered(NvmeStatus::kTransientTransportError), Verdict::kAgain, Verdict::kAgain},
           {answered(NvmeStatus::kAnaInaccessible), Verdict::kElsewhere, Verdict::kElsewhere},
           {answered(NvmeStatus::kAnaTransition), Verdict::kElsewhere, Verdict::kElsewhere},
           {answered(NvmeStatus::kInternalPathError), Verdict::kElsewhere, Verdict::kElsewhere},
           {answered(final_status(NvmeStatus::kInternalPathError)), Verdict::kFail, Verdict::kFail},
           {answered(NvmeStatus::kAbortedQueueDeleted), Verdict::kElsewhere, Verdict::kElsewhere},
           {answered(NvmeStatus::kReservationConflict), Verdict::kFail, Verdict::kFail},
           {answered(NvmeStatus::kAbortRequested), Verdict::kFail, Verdict::kFail},
           {answered(NvmeStatus::kWriteFault), Verdict::kFail, Verdict::kFail},
       }) {
    EXPECT_EQ(judge(c.outcome, false), c.of_read) << nvme_status_text(c.outcome.status);
    EXPECT_EQ(judge(c.outcome, true), c.of_write) << nvme_status_text(c.outcome.status);
  }
}

TEST(Unsettled, BarsWhatOverlapsUntilItIsSettled) {
  Unsettled unsettled;
  unsettled.add(4096, 4096, {.path = 0, .association = 3, .at_ns = 100});
  unsettled.add(65536, 512, {.path = 1, .association = 1, .at_ns = UINT64_MAX});
  EXPECT_FALSE(unsettled.overlaps(0, 4096));
  EXPECT_TRUE(unsettled.overlaps(0, 4097));
  EXPECT_TRUE(unsettled.overlaps(8191, 1));
  EXPECT_FALSE(unsettled.overlaps(8192, 1024));
  EXPECT_FALSE(unsettled.settle(0, 3));  // of the third association itself nothing is known
  EXPECT_FALSE(unsettled.settle(1, 1));
  EXPECT_TRUE(unsettled.settle(0, 4));
  EXPECT_FALSE(unsettled.overlaps(4096, 4096));
  EXPECT_FALSE(unsettled.expire(1'000'000));  // the other never by itself
  EXPECT_TRUE(unsettled.settle(1, 2));
  EXPECT_TRUE(unsettled.empty());
}

TEST(Unsettled, TheFenceFollowsKeepAliveAndQuiesceTime) {
  EXPECT_EQ(fence_after_ns({}), UINT64_MAX);
  EXPECT_EQ(fence_after_ns({.keep_alive_ns = 5 * kNsPerSecond, .quiesce_ns = kNsPerSecond}),
            11 * kNsPerSecond);
  EXPECT_EQ(fence_after_ns({.keep_alive_ns = 5 * kNsPerSecond,
                            .traffic_keeps_alive = true,
                            .quiesce_ns = kNsPerSecond}),
            16 * kNsPerSecond);
  EXPECT_EQ(fence_after_ns({.keep_alive_ns = kNsPerSecond}), 2 * kNsPerSecond + kQuiesceDefaultNs);
}

std::vector<std::byte> ana_log(std::initializer_list<std::vector<uint32_t>> groups) {
  std::vector<std::byte> log(kAnaHeaderBytes);
  store_le<uint16_t>(log.data() + 8, static_cast<uint16_t>(groups.size()));
  for (const auto& group : groups) {  // id, state, namespaces
    size_t at = log.size();
    log.resize(at + kAnaGroupBytes + 4 * (group.size() - 2));
    store_le<uint32_t>(log.data() + at, group[0]);
    store_le<uint32_t>(log.data() + at + 4, static_cast<uint32_t>(group.size() - 2));
    log[at + 16] = static_cast<std::byte>(group[1]);
    for (size_t i = 2; i < group.size(); ++i) {
      store_le<uint32_t>(log.data() + at + kAnaGroupBytes + 4 * (i - 2), group[i]);
    }
  }
  return log;
}

TEST(Ana, FindsTheNamespaceByNameOrGroup) {
  auto log = ana_log({{1, 1, 1, 2}, {2, 3, 7}, {3, 0xf}});
  EXPECT_EQ(find_ana_state(log, 2, 0).value(), AnaState::kOptimized);
  EXPECT_EQ(find_ana_state(log, 7, 0).value(), AnaState::kInaccessible);
  EXPECT_EQ(find_ana_state(log, 9, 3).value(), AnaState::kChange);
  EXPECT_EQ(find_ana_state(log, 9, 0).code(), Code::k_not_found);
  EXPECT_EQ(find_ana_state(ana_log({{1, 5, 1}}), 1, 0).code(), Code::k_io_error);
  for (size_t length = 0; length < log.size(); ++length) {
    (void)find_ana_state(ConstBytes(log).first(length), 7, 9).ok();
  }
}

TEST(Ana, ACountBeyondTheEndOfTheLogReadsNothingThere) {
  auto log = ana_log({{1, 1, 1}});
  store_le<uint32_t>(log.data() + kAnaHeaderBytes + 4, 0xffffffff);
  EXPECT_EQ(find_ana_state(log, 1, 0).value(), AnaState::kOptimized);
  EXPECT_EQ(find_ana_state(log, 2, 0).code(), Code::k_not_found);
}

Result<NvmeOptions> parsed(const std::string& text) {
  Prng prng(1);
  auto uri = Uri::parse(text);
  if (!uri.ok()) return uri.status();
  return parse_nvme_options(std::move(*uri), prng);
}

TEST(NvmeUri, SeveralAddresses) {
  auto options = parsed("nvme-tcp://a,b:1,[::1]:4421,[fe80::2]/nqn.x:y?policy=latency&fence=20s");
  ASSERT_TRUE(options.ok()) << options.status().to_string();
  EXPECT_EQ(options->addresses,
            (std::vector<std::string>{"a:4420", "b:1", "[::1]:4421", "[fe80::2]:4420"}));
  EXPECT_EQ(options->policy, PathPolicy::kLatency);
  EXPECT_EQ(options->fence_ns, 20 * kNsPerSecond);
  EXPECT_EQ(parsed("nvme-tcp://a/nqn.x:y")->fence_ns, 0u);
}

TEST(NvmeUri, SaysWhatIsWrong) {
  struct Case {
    std::string uri;
    std::string_view why;
  };
  std::string seventeen = "nvme-tcp://h0";
  for (int i = 1; i < 17; ++i) seventeen += ",h" + std::to_string(i);
  for (const Case& c : {Case{"nvme-tcp://a,a:4420/nqn.x:y", "a:4420 is given twice"},
                        {"nvme-tcp://a,/nqn.x:y", "nothing behind the last comma"},
                        {"nvme-tcp://,a/nqn.x:y", "an address without a host"},
                        {seventeen + "/nqn.x:y", "more than 16 addresses"},
                        {"nvme-tcp://a,b/nqn.x:y?policy=best", "is none of round-robin"},
                        {"nvme-tcp://a,b/nqn.x:y?fence=0", "at the least: here 10000 ms"},
                        {"nvme-tcp://a,b/nqn.x:y?fence=9s", "at the least: here 10000 ms"},
                        {"nvme-tcp://a,b/nqn.x:y?fence=5ms&keep_alive=0", "here 1000 ms"}}) {
    auto options = parsed(c.uri);
    EXPECT_EQ(options.code(), Code::k_invalid_argument) << c.uri;
    EXPECT_NE(options.status().text().find(c.why), std::string::npos)
        << options.status().to_string();
  }
}

}  // namespace
}  // namespace bb::io::nvme
