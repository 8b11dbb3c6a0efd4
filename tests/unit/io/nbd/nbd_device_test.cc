// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/nbd_device.h"

#include <gtest/gtest.h>

#include "base/units.h"
#include "support/nbd_host.h"

namespace bb::io::nbd {
namespace {

using test::NbdHost;
using test::World;

TEST(NbdOptions, FromUris) {
  auto parsed = [](std::string_view text) {
    return parse_nbd_options(std::move(Uri::parse(text)).value());
  };
  auto tcp = parsed("nbd://host/disk?connections=4&queue_depth=7&io_timeout=2s&wait=1s");
  ASSERT_TRUE(tcp.ok()) << tcp.status().to_string();
  EXPECT_EQ(tcp->address, "host:10809");
  EXPECT_EQ(tcp->wishes.export_name, "disk");
  EXPECT_EQ(tcp->connections, 4);
  EXPECT_EQ(tcp->queue_depth, 7);
  EXPECT_EQ(tcp->io_timeout_ns, 2 * kNsPerSecond);
  EXPECT_EQ(tcp->wait_ns, kNsPerSecond);
  EXPECT_EQ(parsed("nbd://[::1]:7/a/b")->address, "[::1]:7");
  EXPECT_EQ(parsed("nbd://[::1]:7/a/b")->wishes.export_name, "a/b");
  EXPECT_EQ(parsed("nbd://host")->wishes.export_name, "");
  auto local = parsed("nbd+unix:///disk?socket=/run/a%3Fb&read_only=1&extended=0");
  ASSERT_TRUE(local.ok()) << local.status().to_string();
  EXPECT_EQ(local->address, "unix:/run/a?b");
  EXPECT_EQ(local->wishes.export_name, "disk");
  EXPECT_TRUE(local->read_only && !local->wishes.extended && local->wishes.structured);
  for (const char* bad :
       {"nbd:host", "nbd:///disk", "nbd://host/d?connections=0", "nbd://host/d?connections=17",
        "nbd://host/d?queue_depth=2000", "nbd://host/d?colour=red", "nbd+unix:///d",
        "nbd+unix://host/d?socket=/s", "nbd://host/d?socket=/s"}) {
    EXPECT_EQ(parsed(bad).code(), Code::k_invalid_argument) << bad;
  }
}

Task<Result<std::unique_ptr<NbdDevice>>> opened(Context context, std::string text) {
  BB_CO_ASSIGN(NbdOptions options, parse_nbd_options(std::move(Uri::parse(text)).value()));
  auto device = std::make_unique<NbdDevice>(context, std::move(options), text);
  BB_CO_TRY(co_await device->open());
  co_return device;
}

Task<Status> read_block(Device* device, Bytes into) { co_return co_await device->read(0, into); }
Task<Status> write_block(Device* device, ConstBytes from) {
  co_return co_await device->write(0, from);
}

// What a device says of its coming and going.
struct Watcher final : DeviceWatcher {
  std::vector<DeviceState> seen;
  void on_device_state(Device&, DeviceState state) override { seen.push_back(state); }
};

Task<void> until_ready(Loop* loop, Device* device) {
  while (device->state() != DeviceState::kReady) co_await loop->sleep_for(kNsPerMs);
}

struct NbdDeviceTest : testing::Test {
  World world;
  NbdHost host{world};
  std::vector<std::byte> block = std::vector<std::byte>(4096, std::byte{9});
  std::unique_ptr<NbdDevice> device;

  void open(std::string options = "") {
    auto made = world.run(opened(world.context, host.uri(options)));
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    device = std::move(made).value();
  }
  ~NbdDeviceTest() override {
    if (device != nullptr) {
      EXPECT_TRUE(world.run(device->close()).ok());
    }
    device.reset();
    world.run(host.stop_all());
  }
};

TEST_F(NbdDeviceTest, ComesBackWithARaisedIncarnation) {
  open();
  Watcher watcher;
  device->watch(watcher);
  ASSERT_TRUE(world.run(write_block(device.get(), block)).ok());
  uint64_t before = device->incarnation();
  world.run(host.stop());
  Status lost = world.run(write_block(device.get(), block));
  EXPECT_EQ(lost.code(), Code::k_unavailable) << lost.to_string();
  EXPECT_EQ(device->state(), DeviceState::kUnavailable);
  EXPECT_EQ(device->incarnation(), before);
  host.start();
  world.run(until_ready(&world.context.loop, device.get()));
  EXPECT_GT(device->incarnation(), before);
  EXPECT_GE(device->stats().reconnects, 1u);
  std::vector<std::byte> got(4096);
  ASSERT_TRUE(world.run(read_block(device.get(), got)).ok());
  EXPECT_EQ(got, block);
  EXPECT_EQ(watcher.seen, (std::vector{DeviceState::kUnavailable, DeviceState::kReady}));
  device->unwatch(watcher);
}

Task<Status> restart_later(World* world, NbdHost* host) {
  co_await world->context.loop.sleep_for(30 * kNsPerMs);
  host->start();
  co_return Status();
}

Task<void> run_status(Task<Status> task, Status* into) { *into = co_await std::move(task); }

Task<Status> waits(World* world, NbdHost* host, Device* device, Bytes into) {
  TaskGroup group(world->context.loop);
  Status restarted;
  group.spawn(run_status(restart_later(world, host), &restarted));
  Status status = co_await device->read(0, into);
  co_await group.join();
  co_return status;
}

TEST_F(NbdDeviceTest, WaitKeepsRequestsThatLong) {
  open("?wait=20s&connections=2");
  world.run(host.stop());
  std::vector<std::byte> got(4096);
  Status status = world.run(waits(&world, &host, device.get(), got));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_F(NbdDeviceTest, WaitEnds) {
  open("?wait=20ms");
  world.run(host.stop());
  EXPECT_EQ(world.run(read_block(device.get(), block)).code(), Code::k_unavailable);
}

Task<void> until_refused(Loop* loop, NbdDevice* device) {
  while (device->stats().connect_failures == 0) co_await loop->sleep_for(kNsPerMs);
}

TEST_F(NbdDeviceTest, ADifferentExportIsNotTakenBack) {
  open();
  world.run(host.stop_all());
  host.open("mem:4M");
  world.run(until_refused(&world.context.loop, device.get()));
  EXPECT_EQ(device->state(), DeviceState::kUnavailable);
  EXPECT_NE(device->stats().last_error.text().find("the export has changed"), std::string::npos)
      << device->stats().last_error.text();
}

TEST_F(NbdDeviceTest, ACommandWithoutAnAnswerResetsTheConnection) {
  world.run(host.stop_all());
  host.open("fault:mem:8M?latency=300ms&range=0-4096");
  open("?io_timeout=50ms");
  Status status = world.run(read_block(device.get(), block));
  EXPECT_EQ(status.code(), Code::k_unavailable) << status.to_string();
  EXPECT_NE(status.text().find("no answer to command 0 in time"), std::string::npos)
      << status.text();
}

TEST_F(NbdDeviceTest, OpeningSaysWhatIsWrong) {
  auto none = world.run(opened(world.context, "nbd://" + host.address() + "/none"));
  EXPECT_EQ(none.code(), Code::k_not_found);
  EXPECT_NE(none.status().text().find("no export \"none\""), std::string::npos)
      << none.status().text();
  world.run(host.stop());
  auto refused = world.run(opened(world.context, host.uri()));
  EXPECT_EQ(refused.code(), Code::k_unavailable);
  host.start();
}

TEST_F(NbdDeviceTest, AHandshakeThatStallsEndsInTime) {
  auto listener = std::move(world.context.network.listen({"127.0.0.1:0"})).value();
  std::string uri = "nbd://" + listener->local_address() + "/d?connect_timeout=50ms";
  auto stalled = world.run(opened(world.context, uri));
  EXPECT_EQ(stalled.code(), Code::k_timed_out) << stalled.status().to_string();
  listener->shutdown();
  world.run(listener->close());
}

}  // namespace
}  // namespace bb::io::nbd
