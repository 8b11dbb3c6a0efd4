// SPDX-License-Identifier: Apache-2.0
// Reservation commands of our initiator: two hosts at one drive of our target.
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/units.h"
#include "io/nvme/nvme_device.h"
#include "io/sync.h"
#include "support/nvme_host.h"

namespace bb::test {
namespace {

using namespace io::nvme;  // NOLINT: all of it is theirs
using io::Device;
using io::Task;

constexpr const char* kFirst = "11111111-1111-4111-8111-111111111111";
constexpr const char* kSecond = "22222222-2222-4222-8222-222222222222";

class NvmeReserve : public testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::kOff); }
  void TearDown() override {
    for (auto& device : devices_) {
      if (device->state() != io::DeviceState::kClosed) world_.run(closed(device.get()));
    }
    devices_.clear();
    world_.run(host_.stop_all());
  }
  NvmeDevice& open(const char* host, const std::string& more = "") {
    std::string uri = host_.uri(fmt::format("?io_timeout=5s&hostid={}{}", host, more));
    auto opened = world_.run(io::open_device(world_.context, uri));
    BB_CHECK(opened.ok(), "{}", opened.status().to_string());
    devices_.emplace_back(static_cast<NvmeDevice*>(std::move(opened).value().release()));
    return *devices_.back();
  }
  static Task<void> closed(Device* device) {
    Status status = co_await device->close();
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  template <typename Command>
  Code reserve(NvmeDevice& device, Command command) {
    Status status = world_.run(device.reserve(command));
    said_ = status.text();
    return status.code();
  }
  Code enroll(NvmeDevice& device, uint64_t key) {
    return reserve(device, RegisterCommand{.new_key = key});
  }
  ReservationReport report(NvmeDevice& device) {
    auto found = world_.run(device.reservation());
    EXPECT_TRUE(found.ok()) << found.status().to_string();
    return found.ok() ? *found : ReservationReport{};
  }
  static Task<Status> write_block(Device* device, std::vector<std::byte>* block) {
    co_return co_await device->write(0, *block);
  }
  Code write(NvmeDevice& device) {
    std::vector<std::byte> block(4096);
    return world_.run(write_block(&device, &block)).code();
  }

  World world_;
  NvmeHost host_{world_};
  std::vector<std::unique_ptr<NvmeDevice>> devices_;
  std::string said_;
};

TEST_F(NvmeReserve, HolderWritesUntilPreempted) {
  NvmeDevice& one = open(kFirst);
  NvmeDevice& two = open(kSecond);
  EXPECT_EQ(report(one).hosts.size(), 0u);
  ASSERT_EQ(enroll(one, 0xfeedfacecafebeef), Code::k_ok) << said_;
  constexpr auto kType = ReservationType::kWriteExclusive;
  ASSERT_EQ(reserve(one, AcquireCommand{.type = kType, .current_key = 0xfeedfacecafebeef}),
            Code::k_ok)
      << said_;
  EXPECT_EQ(write(one), Code::k_ok);
  EXPECT_EQ(write(two), Code::k_fenced);
  ASSERT_EQ(enroll(two, 2), Code::k_ok) << said_;
  EXPECT_EQ(reserve(two, AcquireCommand{.type = kType, .current_key = 2}), Code::k_fenced);

  ReservationReport seen = report(two);
  EXPECT_EQ(seen.type, kType);
  EXPECT_FALSE(seen.persistent);
  std::vector<ReservationReport::Host> hosts = {
      {.host = Uuid::parse(kFirst).value(), .key = 0xfeedfacecafebeef, .holds = true},
      {.host = Uuid::parse(kSecond).value(), .key = 2, .holds = false}};
  EXPECT_EQ(seen.hosts, hosts);

  ASSERT_EQ(reserve(two, AcquireCommand{.action = AcquireAction::kPreemptAndAbort,
                                        .type = kType,
                                        .current_key = 2,
                                        .preempt_key = 0xfeedfacecafebeef}),
            Code::k_ok)
      << said_;
  EXPECT_EQ(write(one), Code::k_fenced);
  EXPECT_EQ(write(two), Code::k_ok);
  EXPECT_GT(report(one).generation, seen.generation);
  EXPECT_EQ(reserve(one, ReleaseCommand{.type = kType, .current_key = 0xfeedfacecafebeef}),
            Code::k_fenced);
  EXPECT_EQ(reserve(two, ReleaseCommand{.type = kType, .current_key = 2}), Code::k_ok);
  EXPECT_EQ(write(one), Code::k_ok);
  EXPECT_EQ(reserve(two, ReleaseCommand{.action = ReleaseAction::kClear, .current_key = 2}),
            Code::k_ok);
  EXPECT_EQ(report(two).hosts.size(), 0u);
}

// One host by two devices: to the target they are the same, whichever connection they speak by.
TEST_F(NvmeReserve, RegistrationIsTheHosts) {
  NvmeDevice& one = open(kFirst);
  NvmeDevice& again = open(kFirst);
  ASSERT_EQ(enroll(one, 7), Code::k_ok);
  EXPECT_EQ(enroll(again, 8), Code::k_fenced);
  EXPECT_EQ(
      reserve(again,
              RegisterCommand{.action = RegisterAction::kReplace, .current_key = 7, .new_key = 8}),
      Code::k_ok);
  EXPECT_EQ(report(one).hosts.at(0).key, 8u);
}

// They share the queue's slots with I/O, and give theirs back.
TEST_F(NvmeReserve, BesideIo) {
  NvmeDevice& device = open(kFirst, "&queue_depth=2");
  ASSERT_EQ(enroll(device, 1), Code::k_ok);
  auto many = [](Device* io, NvmeDevice* reserved, io::Loop* loop) -> Task<int> {
    struct State {
      int good = 0;
      std::vector<std::byte> block = std::vector<std::byte>(4096);
    } state;
    auto transfer = [](Device* from, State* into) -> Task<void> {
      Status status = co_await from->read(0, into->block);
      into->good += status.ok() ? 1 : 0;
    };
    auto ask = [](NvmeDevice* from, State* into) -> Task<void> {
      auto report = co_await from->reservation();
      into->good += report.ok() && report->hosts.size() == 1 ? 1 : 0;
    };
    io::TaskGroup group(*loop);
    for (int i = 0; i < 20; ++i) {
      group.spawn(transfer(io, &state));
      group.spawn(ask(reserved, &state));
    }
    co_await group.join();
    co_return state.good;
  };
  EXPECT_EQ(world_.run(many(&device, &device, &world_.context.loop)), 40);
}

TEST_F(NvmeReserve, WithoutATarget) {
  NvmeDevice& device = open(kFirst);
  world_.run(host_.stop());
  EXPECT_EQ(enroll(device, 1), Code::k_unavailable) << said_;
  EXPECT_NE(said_.find("reservation register"), std::string::npos) << said_;
  EXPECT_EQ(world_.run(device.reservation()).code(), Code::k_unavailable);
  world_.run(closed(&device));
  EXPECT_EQ(enroll(device, 1), Code::k_bad_state) << said_;
  host_.start();
}

}  // namespace
}  // namespace bb::test
