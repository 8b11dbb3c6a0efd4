// SPDX-License-Identifier: Apache-2.0
// Our initiator against our target on loopback, with the target going away under it.
#include <gtest/gtest.h>

#include <map>

#include "base/log.h"
#include "base/units.h"
#include "io/nvme/discover.h"
#include "io/nvme/nvme_device.h"
#include "io/sync.h"
#include "support/nvme_host.h"

namespace bb::test {
namespace {

using io::Device;
using io::DeviceState;
using io::Task;
using io::nvme::NvmeDevice;

class NvmeReconnect : public testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kError); }

  std::unique_ptr<NvmeDevice> open(const std::string& uri) {
    auto opened = world_.run(io::open_device(world_.context, uri));
    EXPECT_TRUE(opened.ok()) << opened.status().to_string();
    if (!opened.ok()) return nullptr;
    return std::unique_ptr<NvmeDevice>(
        static_cast<NvmeDevice*>(std::move(opened).value().release()));
  }
  Status refusal(const std::string& uri) {
    auto opened = world_.run(io::open_device(world_.context, uri));
    EXPECT_FALSE(opened.ok());
    if (opened.ok()) world_.run(ignore((*opened)->close()));
    return opened.status();
  }
  static Task<void> ignore(Task<Status> task) {
    Status status = co_await std::move(task);
    (void)status.ok();
  }
  static Task<Status> read(Device* device, Bytes into) { co_return co_await device->read(0, into); }
  void close(std::unique_ptr<NvmeDevice>& device) {
    Status closed = world_.run(device->close());
    EXPECT_TRUE(closed.ok()) << closed.to_string();
    device.reset();
  }
  static Task<bool> reaches(io::Loop* loop, Device* device, DeviceState state, uint64_t within_ns) {
    uint64_t until = loop->now_ns() + within_ns;
    while (device->state() != state && loop->now_ns() < until) co_await loop->sleep_for(kNsPerMs);
    co_return device->state() == state;
  }

  World world_;
};

struct Tally {
  uint64_t ok = 0;
  std::map<Code, uint64_t> failed;
  std::string strange;
  bool stop = false;
};

Task<void> keep_writing(io::Loop* loop, Device* device, uint64_t at, Tally* tally) {
  std::vector<std::byte> memory(16384, std::byte{1});
  while (!tally->stop) {
    Status status = co_await device->write(at, memory);
    if (status.ok()) {
      ++tally->ok;
    } else {
      ++tally->failed[status.code()];
      if (status.code() != Code::k_unavailable) tally->strange = status.to_string();
      co_await loop->sleep_for(kNsPerMs);
    }
  }
}

struct Watcher final : io::DeviceWatcher {
  std::vector<DeviceState> seen;
  std::vector<uint64_t> incarnations;
  void on_device_state(Device& device, DeviceState state) override {
    seen.push_back(state);
    incarnations.push_back(device.incarnation());
  }
};

Task<void> restart_under_load(World* world, NvmeHost* host, NvmeDevice* device, Tally* tally,
                              int times) {
  io::Loop& loop = world->context.loop;
  io::TaskGroup group(loop);
  for (uint64_t i = 0; i < 16; ++i) group.spawn(keep_writing(&loop, device, i * 65536, tally));
  for (int i = 0; i < times; ++i) {
    co_await loop.sleep_for(20 * kNsPerMs);
    co_await host->stop();
    co_await loop.sleep_for(30 * kNsPerMs);
    EXPECT_EQ(device->state(), DeviceState::kUnavailable);
    host->start();
    uint64_t until = loop.now_ns() + 5 * kNsPerSecond;
    while (device->state() != DeviceState::kReady && loop.now_ns() < until) {
      co_await loop.sleep_for(kNsPerMs);
    }
    EXPECT_EQ(device->state(), DeviceState::kReady);
  }
  co_await loop.sleep_for(20 * kNsPerMs);
  tally->stop = true;
  co_await group.join();
}

TEST_F(NvmeReconnect, ARestartedTargetRaisesTheIncarnation) {
  NvmeHost host(world_);
  auto device = open(host.uri("?queues=2"));
  ASSERT_NE(device, nullptr);
  Watcher watcher;
  device->watch(watcher);
  Tally tally;
  world_.run(restart_under_load(&world_, &host, device.get(), &tally, 3));
  EXPECT_EQ(tally.strange, "");
  EXPECT_GT(tally.ok, 100u);
  EXPECT_GT(tally.failed[Code::k_unavailable], 0u);
  EXPECT_EQ(device->incarnation(), 4u);
  EXPECT_EQ(device->stats().reconnects, 3u);
  auto u = DeviceState::kUnavailable;
  auto r = DeviceState::kReady;
  EXPECT_EQ(watcher.seen, (std::vector{u, r, u, r, u, r}));
  EXPECT_EQ(watcher.incarnations, (std::vector<uint64_t>{1, 2, 2, 3, 3, 4}));
  device->unwatch(watcher);
  close(device);
  world_.run(host.stop_all());
}

TEST_F(NvmeReconnect, WithWaitNewIoSitsARestartOut) {
  NvmeHost host(world_);
  auto device = open(host.uri("?wait=5s"));
  ASSERT_NE(device, nullptr);
  world_.run(host.stop());
  EXPECT_TRUE(world_.run(
      reaches(world_.reactor.get(), device.get(), DeviceState::kUnavailable, kNsPerSecond)));
  struct Both {
    static Task<void> start_later(io::Loop* loop, NvmeHost* h) {
      co_await loop->sleep_for(30 * kNsPerMs);
      h->start();
    }
    static Task<Status> run(io::Loop* loop, NvmeHost* h, Device* d) {
      io::TaskGroup group(*loop);
      group.spawn(start_later(loop, h));
      std::vector<std::byte> memory(4096);
      Status status = co_await d->read(0, memory);
      co_await group.join();
      co_return status;
    }
  };
  Status status = world_.run(Both::run(world_.reactor.get(), &host, device.get()));
  EXPECT_TRUE(status.ok()) << status.to_string();
  close(device);
  world_.run(host.stop_all());
}

TEST_F(NvmeReconnect, WithoutATargetIoFailsAtOnceAndCloseIsQuick) {
  NvmeHost host(world_);
  auto device = open(host.uri());
  ASSERT_NE(device, nullptr);
  world_.run(host.stop_all());
  EXPECT_TRUE(world_.run(
      reaches(world_.reactor.get(), device.get(), DeviceState::kUnavailable, kNsPerSecond)));
  std::vector<std::byte> memory(512);
  uint64_t before = world_.reactor->now_ns();
  Status status = world_.run(read(device.get(), memory));
  EXPECT_EQ(status.code(), Code::k_unavailable) << status.to_string();
  EXPECT_NE(status.text().find(host.uri() + ": read of 512 bytes at 0: "), std::string::npos)
      << status.to_string();
  close(device);
  EXPECT_LT(world_.reactor->now_ns() - before, kNsPerSecond);
}

TEST_F(NvmeReconnect, SaysWhyItCannotOpen) {
  NvmeHost host(world_, "mem:8M", io::nvme::DigestPolicy::kOff);
  struct Case {
    std::string uri;
    Code code;
    std::string_view why;
  };
  std::string at = "nvme-tcp://" + host.address() + "/";
  for (const Case& c :
       {Case{"nvme-tcp:host", Code::k_invalid_argument, "expected nvme-tcp://host:port/NQN"},
        {"nvme-tcp://h:4420", Code::k_invalid_argument, "expected nvme-tcp://host:port/NQN"},
        {host.uri("?digest=maybe"), Code::k_invalid_argument, "is none of on, header, data, off"},
        {host.uri("?queue_depth=0"), Code::k_invalid_argument, "URI option queue_depth: 0"},
        {host.uri("?hostid=1"), Code::k_invalid_argument, "URI option hostid"},
        {host.uri("?cache=1"), Code::k_invalid_argument, "unknown URI option \"cache\""},
        {"nvme-tcp://127.0.0.1:1/nqn.x:y", Code::k_unavailable,
         "127.0.0.1:1: cannot connect: Connection refused"},
        {host.uri(), Code::k_not_supported, "digest=off goes without"},
        {at + "nqn.2026-11.io.blockbridge:drive:none?digest=off", Code::k_invalid_argument,
         "connect queue 0 as nqn.2026-11.io.blockbridge:host:"},
        {host.uri("?digest=off&nsid=7"), Code::k_not_found, "namespace 7"}}) {
    Status status = refusal(c.uri);
    EXPECT_EQ(status.code(), c.code) << c.uri << ": " << status.to_string();
    EXPECT_NE(status.text().find(c.why), std::string::npos) << status.to_string();
  }
  world_.run(host.stop_all());
}

// Accepts and reads, but never answers.
struct BlackHole {
  std::unique_ptr<io::Listener> listener;
  std::vector<std::unique_ptr<io::Stream>> streams;
  static Task<void> run(BlackHole* self) {
    for (;;) {
      auto stream = co_await self->listener->accept();
      if (!stream.ok()) break;
      self->streams.push_back(std::move(stream).value());
    }
    for (auto& stream : self->streams) co_await stream->close();
  }
};

struct OpenResult {
  Status status;
  uint64_t took_ns = 0;
};
Task<void> timed_open(World* world, std::string uri, OpenResult* result) {
  uint64_t before = world->reactor->now_ns();
  auto opened = co_await io::open_device(world->context, uri);
  result->took_ns = world->reactor->now_ns() - before;
  result->status = opened.status();
  if (opened.ok()) result->status = co_await (*opened)->close();
}
Task<void> open_eight(World* world, BlackHole* hole, std::vector<std::string> uris,
                      std::vector<OpenResult>* results) {
  io::Loop& loop = world->context.loop;
  io::TaskGroup accepting(loop);
  accepting.spawn(BlackHole::run(hole));
  io::TaskGroup group(loop);
  for (size_t i = 0; i < uris.size(); ++i) {
    group.spawn(timed_open(world, uris[i], &(*results)[i]));
  }
  co_await group.join();
  hole->listener->shutdown();
  co_await accepting.join();
  co_await hole->listener->close();
}

TEST_F(NvmeReconnect, OneDeadTargetDelaysNoOther) {
  NvmeHost host(world_);
  BlackHole hole{.listener = std::move(world_.network->listen({"127.0.0.1:0"})).value()};
  std::vector<std::string> uris(7, host.uri("?connect_timeout=300ms"));
  uris.insert(uris.begin(),
              NvmeHost::uri_at(hole.listener->local_address(), "?connect_timeout=300ms"));
  std::vector<OpenResult> results(uris.size());
  world_.run(open_eight(&world_, &hole, uris, &results));
  EXPECT_EQ(results[0].status.code(), Code::k_timed_out) << results[0].status.to_string();
  EXPECT_NE(results[0].status.text().find("no answer to the NVMe/TCP connection request"),
            std::string::npos);
  EXPECT_LT(results[0].took_ns, kNsPerSecond);
  for (size_t i = 1; i < results.size(); ++i) {
    EXPECT_TRUE(results[i].status.ok()) << results[i].status.to_string();
    EXPECT_LT(results[i].took_ns, 250 * kNsPerMs);
  }
  world_.run(host.stop_all());
}

TEST_F(NvmeReconnect, ACommandWithoutAnswerResetsTheConnection) {
  NvmeHost host(world_, "fault:mem:8M?latency=400ms");
  auto device = open(host.uri("?io_timeout=100ms"));
  ASSERT_NE(device, nullptr);
  std::vector<std::byte> memory(512);
  uint64_t before = world_.reactor->now_ns();
  Status status = world_.run(read(device.get(), memory));
  EXPECT_EQ(status.code(), Code::k_unavailable) << status.to_string();
  EXPECT_NE(status.text().find("in time -> connection reset"), std::string::npos)
      << status.to_string();
  EXPECT_LT(world_.reactor->now_ns() - before, 300 * kNsPerMs);
  EXPECT_TRUE(world_.run(
      reaches(world_.reactor.get(), device.get(), DeviceState::kReady, 2 * kNsPerSecond)));
  EXPECT_EQ(device->incarnation(), 2u);
  close(device);
  world_.run(host.stop_all());
}

TEST_F(NvmeReconnect, KeepAliveFindsADeadPeerAndSparesALivingOne) {
  NvmeHost host(world_);
  auto device = open(host.uri("?keep_alive=60ms"));
  ASSERT_NE(device, nullptr);
  struct Idle {
    static Task<void> run(io::Loop* loop) { co_await loop->sleep_for(400 * kNsPerMs); }
  };
  world_.run(Idle::run(world_.reactor.get()));
  EXPECT_EQ(device->stats().reconnects, 0u) << device->stats().last_error.to_string();
  EXPECT_EQ(device->state(), DeviceState::kReady);
  close(device);
  world_.run(host.stop_all());
}

TEST_F(NvmeReconnect, DiscoveryNamesTheSubsystem) {
  NvmeHost host(world_);
  auto entries = world_.run(
      io::nvme::discover(world_.context, host.address(), "nqn.2026-11.io.blockbridge:host:test"));
  ASSERT_TRUE(entries.ok()) << entries.status().to_string();
  ASSERT_EQ(entries->size(), 1u);
  EXPECT_EQ(entries->front().subsystem_nqn, NvmeHost::kNqn);
  EXPECT_EQ(entries->front().address + ":" + entries->front().port, host.address());
  world_.run(host.stop_all());
}

}  // namespace
}  // namespace bb::test
