// SPDX-License-Identifier: Apache-2.0
// One target on several loops, each with a thread of its own.
#include "io/nvme/target_group.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "io/device_uri.h"
#include "io/nvme/discover.h"
#include "io/there.h"
#include "support/loops.h"

#include "auth_vectors_types.h"

namespace bb::io::nvme {
namespace {

using bb::test::kLoops;

constexpr const char* kHost = "nqn.2026-11.io.blockbridge:host:known";

std::string nqn_of(size_t place) {
  return fmt::format("nqn.2026-11.io.blockbridge:drive:on-loop-{}", place);
}

class TargetGroupTest : public bb::test::LoopsTest {
 protected:
  TargetGroupTest() {
    char name[] = "/tmp/bb-group-XXXXXX";
    folder = ::mkdtemp(name);
  }
  ~TargetGroupTest() override {
    if (group != nullptr) world.run(group->stop());
    std::filesystem::remove_all(folder);
  }

  void serve(TargetOptions options = {}, const SecurityConfig& security = {}) {
    options.listen = {{"127.0.0.1:0"}, {"127.0.0.1:0"}};
    auto made = world.run(TargetGroup::create(world.context, borrowed(), std::move(options)));
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    group = std::move(*made);
    for (size_t place = 0; place < kLoops; ++place) {
      Status added = world.run(group->add_subsystem(
          place, {.nqn = nqn_of(place), .device = &devices[place], .security = security}));
      ASSERT_TRUE(added.ok()) << added.to_string();
    }
  }
  std::string uri(size_t place, const std::string& options = "") const {
    return fmt::format("nvme-tcp://{}/{}?hostnqn={}&queues=2{}", group->addresses()[place % 2],
                       nqn_of(place), kHost, options);
  }
  std::string file(const std::string& name, const char* text) const {
    std::string path = folder + "/" + name;
    std::ofstream(path) << text << "\n";
    EXPECT_EQ(::chmod(path.c_str(), 0600), 0);
    return path;
  }
  // "ok" once it was read and written.
  std::string use(const std::string& text) {
    auto opened = world.run(open_device(world.context, text));
    if (!opened.ok()) return opened.status().to_string();
    std::vector<std::byte> data(65536);
    Status used = world.run(write_and_read(opened->get(), data));
    Status closed = world.run((*opened)->close());
    return used.ok() && closed.ok() ? "ok" : used.to_string();
  }
  static Task<Status> write_and_read(Device* disk, Bytes data) {
    BB_CO_TRY(co_await disk->write(0, data));
    co_return co_await disk->read(0, data);
  }

  std::unique_ptr<TargetGroup> group;
  std::string folder;
};

TEST_F(TargetGroupTest, EachDeviceIsReachedByEveryPortAndOnItsOwnThreadAlone) {
  serve();
  for (size_t place = 0; place < kLoops; ++place) {
    for (const char* options : {"", "&digest=off"}) {
      EXPECT_EQ(use(uri(place, options)), "ok");
      EXPECT_EQ(devices[place].thread.load(), thread_of(place));
    }
    EXPECT_GE(devices[place].requests.load(), 4u);
  }
}

TEST_F(TargetGroupTest, TheFrontTellsOfAllAndOfWhoIsConnected) {
  serve();
  auto log = world.run(discover(world.context, group->addresses()[0], kHost));
  ASSERT_TRUE(log.ok()) << log.status().to_string();
  EXPECT_EQ(log->size(), 2 * kLoops);
  auto opened = world.run(open_device(world.context, uri(2)));
  ASSERT_TRUE(opened.ok());
  auto there = world.run(group->controllers());
  ASSERT_EQ(there.size(), 1u);
  EXPECT_EQ(there[0].nqn, nqn_of(2));
  EXPECT_EQ(there[0].io_queues, 2u);
  EXPECT_TRUE(world.run((*opened)->close()).ok());
  EXPECT_NE(use(fmt::format("nvme-tcp://{}/nqn.2026-11.io.blockbridge:drive:none",
                            group->addresses()[0])),
            "ok");
}

TEST_F(TargetGroupTest, WhatWasRemovedIsGoneAndItsHostsAreCutOff) {
  serve();
  auto opened = world.run(open_device(world.context, uri(1, "&wait=0")));
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(world.run(group->remove_subsystem(nqn_of(1))).ok());
  std::vector<std::byte> data(4096);
  EXPECT_FALSE(world.run(write_and_read(opened->get(), data)).ok());
  EXPECT_TRUE(world.run((*opened)->close()).ok());
  EXPECT_NE(use(uri(1)), "ok");
  EXPECT_EQ(world.run(group->remove_subsystem(nqn_of(1))).code(), Code::k_not_found);
  EXPECT_TRUE(world.run(group->add_subsystem(2, {.nqn = nqn_of(1), .device = &devices[2]})).ok());
  EXPECT_EQ(use(uri(1)), "ok");
}

TEST_F(TargetGroupTest, AccessIsSetOnAllLoops) {
  serve();
  EXPECT_EQ(world.run(group->set_ana_state(3, 1, AnaState::kInaccessible)).code(),
            Code::k_invalid_argument);
  EXPECT_TRUE(world.run(group->set_ana_state(0, 1, AnaState::kInaccessible)).ok());
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_NE(use(uri(place, "&wait=0&io_timeout=300ms&connect_timeout=300ms")), "ok");
  }
  EXPECT_TRUE(world.run(group->set_ana_state(0, 1, AnaState::kOptimized)).ok());
  for (size_t place = 0; place < kLoops; ++place) EXPECT_EQ(use(uri(place)), "ok");
}

Task<void> keep(Task<Status> task, Status* status) { *status = co_await std::move(task); }

TEST_F(TargetGroupTest, OfTwoChangesOfAccessTheLaterOneHoldsOnAllLoops) {
  serve();
  auto opened = world.run(open_device(world.context, uri(0)));
  ASSERT_TRUE(opened.ok());
  std::vector<std::byte> data(4096);
  Status used = error(Code::k_internal, "not yet");
  Status first = used;
  TaskGroup using_it(*world.reactor);
  TaskGroup changing(*world.reactor);
  devices[0].hold = true;
  using_it.spawn(keep(write_and_read(opened->get(), data), &used));
  while (devices[0].held == nullptr) world.run(wait_ms(*world.reactor, 1));
  changing.spawn(keep(group->set_ana_state(0, 1, AnaState::kInaccessible), &first));
  EXPECT_FALSE(first.ok()) << "it waits for the write";
  EXPECT_TRUE(world.run(group->set_ana_state(0, 1, AnaState::kOptimized)).ok());
  world.run(changing.join());  // there is access again, nothing to wait for
  devices[0].held->done(devices[0].held, {});
  world.run(using_it.join());
  EXPECT_TRUE(used.ok()) << used.to_string();
  EXPECT_TRUE(first.ok()) << first.to_string();
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_EQ(use(uri(place, "&wait=0&connect_timeout=300ms")), "ok");
  }
  EXPECT_TRUE(world.run((*opened)->close()).ok());
}

// Each once, with what it did, whatever loop it is on.
TEST_F(TargetGroupTest, StatisticsAreOfAllLoops) {
  serve();
  for (size_t place = 0; place < kLoops; ++place) EXPECT_EQ(use(uri(place)), "ok");
  auto opened = world.run(open_device(world.context, uri(2)));
  ASSERT_TRUE(opened.ok());
  StatsReport report;
  world.run(group->collect(&report));
  std::map<std::string, std::vector<uint64_t>> writes;  // by export
  uint32_t connections = 0;
  for (const ObjectStats& row : report.objects) {
    if (row.type == "export") writes[row.name].push_back(row.io.kind(IoKind::kWrite).count());
    if (row.type == "connection") ++connections;
  }
  EXPECT_EQ(writes.size(), kLoops);
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_EQ(writes[nqn_of(place)], std::vector<uint64_t>{1}) << place;
  }
  EXPECT_EQ(connections, 2u);
  EXPECT_TRUE(world.run((*opened)->close()).ok());
}

TEST_F(TargetGroupTest, TlsAndAuthenticationCrossWithTheConnection) {
  SecurityConfig security;
  security.hosts.emplace(kHost, AuthSecret::parse(test::kSecretRows[3].text).value());
  security.psks.emplace(kHost, PskSecret::parse(test::kPskRows[6].text).value());
  serve({.tls = TlsPolicy::kRequired}, security);
  std::string tls = "&tls_psk_file=" + file("psk", test::kPskRows[6].text);
  std::string right = "&dhchap_secret_file=" + file("right", test::kSecretRows[3].text);
  std::string wrong = "&dhchap_secret_file=" + file("wrong", test::kSecretRows[4].text);
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_EQ(use(uri(place, tls + right)), "ok");
    EXPECT_NE(use(uri(place, tls + wrong)).find("authentication failed"), std::string::npos);
    EXPECT_NE(use(uri(place, tls)).find("give a dhchap_secret_file"), std::string::npos);
    EXPECT_NE(use(uri(place, right)), "ok");
  }
}

// Connections on their way from one thread to another while everything ends.
TEST_F(TargetGroupTest, StopsInTheMiddleOfAStorm) {
  for (int round = 0; round < 3; ++round) {
    serve();
    std::vector<std::unique_ptr<Runtime>> hosts;
    hosts.reserve(4);
    std::atomic<int> left{0};
    for (int i = 0; i < 4; ++i) hosts.push_back(std::move(Runtime::create(true)).value());
    for (size_t i = 0; i < 24; ++i) {
      Runtime& host = *hosts[i % hosts.size()];
      ++left;
      auto go = [&host, where = uri(i % kLoops, "&connect_timeout=1s&wait=0")]() -> Task<Status> {
        for (int attempt = 0; attempt < 3; ++attempt) {
          auto opened = co_await open_device(host.context(), where);
          if (opened.ok()) (void)co_await (*opened)->close();
        }
        co_return Status();
      };
      host.start(std::move(go), [&left](const Status&) { --left; });
    }
    world.run(wait_ms(*world.reactor, 2 + static_cast<uint64_t>(round) * 8));
    world.run(group->stop());
    group.reset();
    hosts.clear();  // waits for their tasks
    EXPECT_EQ(left.load(), 0);
  }
}

}  // namespace
}  // namespace bb::io::nvme
