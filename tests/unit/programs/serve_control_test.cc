// SPDX-License-Identifier: Apache-2.0
// What bb-serve is asked and told while its devices are on several loops.
#include "bb-serve-control.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <filesystem>

#include "common/metrics_server.h"
#include "io/device_uri.h"
#include "io/rpc/rpc_client.h"
#include "io/rpc/stats_methods.h"
#include "support/world.h"

namespace bb::program {
namespace {

using bb::test::World;

constexpr size_t kLoops = 3;
constexpr size_t kDevices = 5;  // more than loops

class ServeControlTest : public ::testing::Test {
 protected:
  ServeControlTest() {
    std::vector<std::string> uris;
    uris.reserve(kDevices);
    for (size_t i = 0; i < kDevices; ++i) uris.push_back(fmt::format("mem:{}M", i + 1));
    auto opened = world.run(devices.open(&uris));
    BB_CHECK(opened.ok(), "{}", opened.status().to_string());
    auto made = world.run(io::nvme::TargetGroup::create(
        loops.front(), loops.others(), {.listen = {{"127.0.0.1:0"}, {"127.0.0.1:0"}}}));
    BB_CHECK(made.ok(), "{}", made.status().to_string());
    target = std::move(*made);
    for (size_t i = 0; i < kDevices; ++i) {
      Status added =
          world.run(target->add_subsystem(loops.place(i), {.nqn = nqn(i), .device = (*opened)[i]}));
      BB_CHECK(added.ok(), "{}", added.to_string());
    }
    io::CollectStats collect = [this](io::StatsReport* into) { return collect_all(into); };
    io::rpc::add_stats_methods(server, *world.reactor, collect);
    control = std::make_unique<NvmeControl>(loops, *target, devices, true);
    control->add_methods(server);
    metrics = MetricsServer::start(*world.reactor, "0", collect).value();
    char name[] = "/tmp/bb-control-XXXXXX";
    folder = ::mkdtemp(name);
    io::Address at{"unix:" + folder + "/s"};
    Status listening = server.listen(at);
    BB_CHECK(listening.ok(), "{}", listening.to_string());
    client = world.run(io::rpc::RpcClient::connect(world.context, at, UINT64_MAX)).value();
  }
  ~ServeControlTest() override {
    world.run(client->close());
    world.run(metrics->stop());
    world.run(server.stop());
    world.run(target->stop());
    EXPECT_TRUE(world.run(devices.close()).ok());
    std::filesystem::remove_all(folder);
  }

  static std::string nqn(size_t i) { return fmt::format("nqn.2026-11.io.blockbridge:disk:{}", i); }
  io::Task<void> collect_all(io::StatsReport* into) {
    co_await devices.collect(into);
    co_await target->collect(into);
  }
  Result<Json> call(const char* method, Json params) {
    return world.run(client->call(method, std::move(params), UINT64_MAX));
  }
  std::string uri(size_t i, uint32_t nsid = 1, size_t port = 0) const {
    return fmt::format("nvme-tcp://{}/{}?nsid={}&wait=0&connect_timeout=400ms",
                       target->addresses()[port], nqn(i), nsid);
  }
  // "ok" once it was written and read.
  static io::Task<std::string> use(io::Context context, std::string text) {
    auto opened = co_await io::open_device(context, text);
    if (!opened.ok()) co_return opened.status().to_string();
    std::vector<std::byte> data(4096, std::byte{7});
    Status used = co_await (*opened)->write(0, data);
    if (used.ok()) used = co_await (*opened)->read(0, data);
    Status closed = co_await (*opened)->close();
    co_return used.ok() && closed.ok() ? "ok" : used.to_string();
  }
  // The device of each namespace, by "<number of the subsystem>/<nsid>".
  std::map<std::string, std::string> listed() {
    std::map<std::string, std::string> all;
    auto answer = call("namespace.list", Json::object());
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    for (const Json& row : answer->at("namespaces")) {
      std::string name = row.at("subsystem");
      all[fmt::format("{}/{}", name.back(), row.at("nsid").get<int>())] = row.at("device");
    }
    return all;
  }
  static io::Task<std::string> get(io::Context context, std::string address) {
    auto stream = co_await context.network.connect({std::move(address)}, UINT64_MAX);
    BB_CHECK(stream.ok(), "{}", stream.status().to_string());
    std::string text = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)co_await (*stream)->send_all(as_bytes(text));
    std::string all;
    std::vector<std::byte> part(65536);
    for (;;) {
      auto got = co_await (*stream)->recv_some(part);
      if (!got.ok() || *got == 0) break;
      all.append(reinterpret_cast<const char*>(part.data()), *got);
    }
    co_await (*stream)->close();
    co_return all;
  }

  World world;
  Loops loops = Loops::create(world.context, kLoops, {}).value();
  Devices devices{loops};
  std::unique_ptr<io::nvme::TargetGroup> target;
  io::rpc::RpcServer server{world.context};
  std::unique_ptr<NvmeControl> control;
  std::unique_ptr<MetricsServer> metrics;
  std::unique_ptr<io::rpc::RpcClient> client;
  std::string folder;
};

TEST_F(ServeControlTest, NamespacesComeChangeAndGoOnTheLoopOfTheirSubsystem) {
  std::map<std::string, std::string> before = {{"0/1", "mem:1M"},
                                               {"1/1", "mem:2M"},
                                               {"2/1", "mem:3M"},
                                               {"3/1", "mem:4M"},
                                               {"4/1", "mem:5M"}};
  EXPECT_EQ(listed(), before);
  for (size_t i = 0; i < kDevices; ++i) {
    size_t had = devices.at(loops.place(i)).size();
    auto added = call("namespace.add", {{"subsystem", nqn(i)}, {"device", "mem:16M"}});
    ASSERT_TRUE(added.ok()) << added.status().to_string();
    EXPECT_EQ(added->at("nsid"), 2);
    EXPECT_EQ(devices.at(loops.place(i)).size(), had + 1);
    EXPECT_EQ(world.run(use(world.context, uri(i, 2))), "ok");
    auto replaced =
        call("namespace.replace", {{"subsystem", nqn(i)}, {"nsid", 2}, {"device", "mem:32M"}});
    ASSERT_TRUE(replaced.ok()) << replaced.status().to_string();
    EXPECT_EQ(listed().at(fmt::format("{}/2", i)), "mem:32M");
    EXPECT_EQ(world.run(use(world.context, uri(i, 2))), "ok");
    auto removed = call("namespace.remove", {{"subsystem", nqn(i)}, {"nsid", 2}});
    ASSERT_TRUE(removed.ok()) << removed.status().to_string();
    EXPECT_EQ(removed->at("device"), "mem:32M");
    EXPECT_EQ(devices.at(loops.place(i)).size(), had);
    EXPECT_NE(world.run(use(world.context, uri(i, 2))), "ok");
  }
  EXPECT_EQ(listed(), before);
}

TEST_F(ServeControlTest, WhatCannotBeIsRefused) {
  EXPECT_EQ(call("namespace.add", {{"device", "mem:1M"}}).code(), Code::k_invalid_argument);
  for (size_t i = 0; i < kLoops; ++i) {
    EXPECT_EQ(
        call("namespace.add", {{"subsystem", nqn(i)}, {"device", "mem:1M"}, {"nsid", 1}}).code(),
        Code::k_already_exists);
    EXPECT_EQ(call("namespace.remove", {{"subsystem", nqn(i)}, {"nsid", 7}}).code(),
              Code::k_not_found);
    EXPECT_EQ(call("namespace.remove", {{"subsystem", nqn(i)}, {"nsid", 1}, {"x", 1}}).code(),
              Code::k_invalid_argument);
  }
  EXPECT_EQ(call("namespace.add", {{"subsystem", nqn(9)}, {"device", "mem:1M"}}).code(),
            Code::k_not_found);
  EXPECT_EQ(listed().size(), kDevices);
}

TEST_F(ServeControlTest, AccessIsChangedOnAllLoops) {
  ASSERT_TRUE(
      call("namespace.add", {{"subsystem", nqn(1)}, {"device", "mem:1M"}, {"ana_group", 2}}).ok());
  ASSERT_TRUE(call("ana.set", {{"port", 2}, {"state", "inaccessible"}}).ok());
  for (size_t i = 0; i < kDevices; ++i) {
    EXPECT_EQ(world.run(use(world.context, uri(i, 1, 0))), "ok");
    EXPECT_NE(world.run(use(world.context, uri(i, 1, 1))), "ok");
  }
  EXPECT_EQ(world.run(use(world.context, uri(1, 2, 1))), "ok") << "another group";
  auto listed = call("ana.list", Json::object());
  ASSERT_TRUE(listed.ok());
  std::string states;
  for (const Json& row : listed->at("states")) {
    states += fmt::format("{}/{} {}, ", row.at("port").get<int>(), row.at("group").get<int>(),
                          row.at("state").get<std::string>());
  }
  EXPECT_EQ(states, "1/1 optimized, 1/2 optimized, 2/1 inaccessible, 2/2 optimized, ");
}

// Of devices and exports each once, over the control socket and as text.
TEST_F(ServeControlTest, StatisticsAreOfAllLoops) {
  for (size_t i = 0; i < kDevices; ++i) EXPECT_EQ(world.run(use(world.context, uri(i))), "ok");
  auto answer = call("io.stats", Json::object());
  ASSERT_TRUE(answer.ok()) << answer.status().to_string();
  std::map<std::string, std::vector<int>> writes;  // by name
  for (const Json& row : answer->at("objects")) {
    if (row.at("type") == "connection") continue;
    writes[row.at("name")].push_back(row.at("write").at("count").get<int>());
  }
  EXPECT_EQ(writes.size(), 2 * kDevices);
  std::string text = world.run(get(world.context, metrics->address()));
  for (size_t i = 0; i < kDevices; ++i) {
    std::string device = fmt::format("mem:{}M", i + 1);
    EXPECT_EQ(writes[device], std::vector<int>{1}) << device;
    EXPECT_EQ(writes[nqn(i)], std::vector<int>{1}) << i;
    for (const std::string& line :
         {fmt::format("\nbb_device_commands_total{{device=\"{}\",op=\"write\"}} 1\n", device),
          fmt::format("\nbb_export_commands_total{{export=\"{}\",op=\"read\"}} 1\n", nqn(i))}) {
      EXPECT_NE(text.find(line), std::string::npos) << line;
    }
  }
}

TEST_F(ServeControlTest, IsAskedAndChangedUnderLoad) {
  std::vector<std::unique_ptr<io::Runtime>> hosts;
  hosts.reserve(2);
  for (int i = 0; i < 2; ++i) hosts.push_back(std::move(io::Runtime::create(true)).value());
  std::atomic<bool> enough{false};
  std::atomic<int> good{0};
  for (size_t i = 0; i < 2 * kLoops; ++i) {
    io::Runtime& host = *hosts[i % hosts.size()];
    auto load = [&host, &enough, &good, at = uri(i % kLoops)]() -> io::Task<Status> {
      while (!enough) good += co_await use(host.context(), at) == "ok" ? 1 : 0;
      co_return Status();
    };
    host.start(std::move(load), [](const Status&) {});
  }
  for (size_t i = 0; i < 12; ++i) {
    std::string name = nqn(i % kDevices);
    EXPECT_TRUE(call("io.stats", {{"buckets", true}}).ok());
    EXPECT_TRUE(call("namespace.add", {{"subsystem", name}, {"device", "mem:1M"}}).ok());
    EXPECT_TRUE(call("io.slow", Json::object()).ok());
    EXPECT_NE(world.run(get(world.context, metrics->address())).find("200 OK"), std::string::npos);
    EXPECT_TRUE(call("namespace.remove", {{"subsystem", name}, {"nsid", 2}}).ok());
    EXPECT_TRUE(call("ana.set", {{"state", i % 2 == 0 ? "non-optimized" : "optimized"}}).ok());
  }
  enough = true;
  hosts.clear();  // waits for their tasks
  EXPECT_GT(good.load(), 0);
}

}  // namespace
}  // namespace bb::program
