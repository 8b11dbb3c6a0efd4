// SPDX-License-Identifier: Apache-2.0
#include "io/device.h"

#include <gtest/gtest.h>

#include <vector>

namespace bb::io {
namespace {

class Switchable final : public Device {
 public:
  void become(DeviceState state) { set_state(state); }
  Task<Status> close() override { co_return Status(); }

 private:
  void do_submit(IoRequest& request) override { request.done(&request, Status()); }
};

struct Watcher final : DeviceWatcher {
  std::vector<DeviceState> told;
  DeviceWatcher* unwatches = nullptr;
  Switchable* makes_ready = nullptr;

  void on_device_state(Device& device, DeviceState state) override {
    told.push_back(state);
    if (unwatches != nullptr) device.unwatch(*std::exchange(unwatches, nullptr));
    if (makes_ready != nullptr) std::exchange(makes_ready, nullptr)->become(DeviceState::kReady);
  }
};

constexpr DeviceState kGone = DeviceState::kUnavailable;
constexpr DeviceState kBack = DeviceState::kReady;

TEST(Device, WatchersMayUnwatchThemselvesAndEachOther) {
  Switchable device;
  Watcher watchers[4];
  for (Watcher& watcher : watchers) device.watch(watcher);
  watchers[0].unwatches = &watchers[0];
  watchers[1].unwatches = &watchers[2];  // the next one, not yet told
  device.become(kGone);
  device.become(kBack);
  EXPECT_EQ(watchers[0].told, (std::vector{kGone}));
  EXPECT_EQ(watchers[1].told, (std::vector{kGone, kBack}));
  EXPECT_EQ(watchers[2].told, (std::vector<DeviceState>{}));
  EXPECT_EQ(watchers[3].told, (std::vector{kGone, kBack}));
  device.unwatch(watchers[1]);
  device.unwatch(watchers[3]);
}

TEST(Device, TheLastWordToEveryWatcherIsTheState) {
  Switchable device;
  Watcher watchers[3];
  for (Watcher& watcher : watchers) device.watch(watcher);
  watchers[1].makes_ready = &device;
  device.become(kGone);
  for (Watcher& watcher : watchers) {
    EXPECT_EQ(watcher.told.back(), kBack);
    device.unwatch(watcher);
  }
}

}  // namespace
}  // namespace bb::io
