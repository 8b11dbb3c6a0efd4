// SPDX-License-Identifier: Apache-2.0
#include "io/runtime.h"

#include <gtest/gtest.h>

#include <atomic>

namespace bb::io {
namespace {

Task<int> after(Loop* loop, uint64_t sleep_ns, int value) {
  if (sleep_ns > 0) co_await loop->sleep_for(sleep_ns);
  co_return value;
}

class RuntimeTest : public testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Runtime> create() {
    return std::move(Runtime::create(GetParam() /* own thread */)).value();
  }
};

TEST_P(RuntimeTest, CallGivesTheValue) {
  auto runtime = create();
  Loop* loop = &runtime->reactor();
  EXPECT_EQ(runtime->call([=] { return after(loop, 0, 7); }), 7);
  EXPECT_EQ(runtime->call([=] { return after(loop, 100'000, 8); }), 8);
}

// A task that was started a moment before the runtime ends used to be lost, with its completion,
// when the loop had not yet taken it over.
TEST_P(RuntimeTest, EndsAfterWhatWasStarted) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> sum = 0;
    auto runtime = create();
    Loop* loop = &runtime->reactor();
    for (uint64_t i = 0; i < 4; ++i) {
      runtime->start([=] { return after(loop, i * 1000, 1); }, [&sum](int one) { sum += one; });
    }
    runtime.reset();
    ASSERT_EQ(sum.load(), 4) << "in round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Drivers, RuntimeTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "OwnThread" : "HostDriven"; });

TEST(RuntimeDeath, TheLoopIsNotEnteredTwice) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto enter = [] {
    auto reactor = std::move(Reactor::create()).value();
    struct Again : Work {
      Reactor* reactor = nullptr;
    } again;
    again.reactor = reactor.get();
    again.run = [](Work* work) { static_cast<Again*>(work)->reactor->run_once(false); };
    reactor->post(again);
    reactor->run_once(false);
  };
  EXPECT_DEATH(enter(), "the loop was entered from something it runs");
}

}  // namespace
}  // namespace bb::io
