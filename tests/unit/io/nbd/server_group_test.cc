// SPDX-License-Identifier: Apache-2.0
// One NBD server on several loops, each with a thread of its own.
#include "io/nbd/server_group.h"

#include <gtest/gtest.h>

#include <atomic>

#include "io/device_uri.h"
#include "io/nbd/client_connection.h"
#include "support/loops.h"
#include "support/tls_peers.h"

namespace bb::io::nbd {
namespace {

using bb::test::kLoops;

constexpr uint64_t kSoonNs = 5'000'000'000;

std::string name_of(size_t place) { return fmt::format("on-loop-{}", place); }

class NbdServerGroup : public bb::test::LoopsTest {
 protected:
  ~NbdServerGroup() override {
    if (group != nullptr) world.run(group->stop());
  }

  void serve(const ExportOptions& options = {}, ServerLimits limits = {}, ServerTls tls = {}) {
    group = world.run(ServerGroup::create(world.context, borrowed(), limits, std::move(tls)));
    for (size_t place = 0; place < kLoops; ++place) {
      Status added = world.run(group->add_export(place, name_of(place), &devices[place], options));
      ASSERT_TRUE(added.ok()) << added.to_string();
    }
    auto at = group->start({"127.0.0.1:0"});
    ASSERT_TRUE(at.ok()) << at.status().to_string();
    address = *at;
  }
  std::string uri(size_t place) const {
    return fmt::format("nbd://{}/{}?wait=0", address, name_of(place));
  }
  // "ok" once what was written was read.
  static Task<std::string> use(Context context, std::string text, std::byte fill) {
    auto opened = co_await open_device(context, text);
    if (!opened.ok()) co_return opened.status().to_string();
    std::vector<std::byte> data(65536, fill);
    std::vector<std::byte> back(data.size());
    Status used = co_await (*opened)->write(0, data);
    if (used.ok()) used = co_await (*opened)->read(0, back);
    Status closed = co_await (*opened)->close();
    if (!used.ok() || !closed.ok()) co_return used.to_string() + " / " + closed.to_string();
    co_return data == back ? "ok" : "other bytes";
  }
  Task<Result<std::unique_ptr<Stream>>> dial() {
    co_return co_await world.context.network.connect({address}, world.reactor->now_ns() + kSoonNs);
  }

  std::unique_ptr<ServerGroup> group;
  std::string address;
};

TEST_F(NbdServerGroup, EachDeviceIsUsedOnItsOwnThreadAlone) {
  serve();
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_EQ(world.run(use(world.context, uri(place), std::byte{7})), "ok");
    EXPECT_EQ(devices[place].thread.load(), thread_of(place));
    EXPECT_GE(devices[place].requests.load(), 2u);
  }
  std::string none = fmt::format("nbd://{}/none?wait=0", address);
  EXPECT_NE(world.run(use(world.context, none, std::byte{7})), "ok");
  EXPECT_EQ(world.run(group->add_export(1, name_of(2), &devices[2], {})).code(),
            Code::k_already_exists);
  EXPECT_EQ(world.run(use(world.context, uri(2), std::byte{8})), "ok");
}

// Each once, with what it did, and its connection by the number it was given when it came.
TEST_F(NbdServerGroup, StatisticsAreOfAllLoops) {
  serve();
  for (size_t place = 0; place < kLoops; ++place) {
    EXPECT_EQ(world.run(use(world.context, uri(place), std::byte{7})), "ok");
  }
  auto opened = world.run(open_device(world.context, uri(2)));
  ASSERT_TRUE(opened.ok());
  StatsReport report;
  world.run(group->collect(&report));
  std::string told;
  for (const ObjectStats& row : report.objects) {
    told += fmt::format("{} {} {}, ", row.type, row.name, row.io.kind(IoKind::kWrite).count());
  }
  EXPECT_EQ(told,
            "export on-loop-0 1, export on-loop-1 1, export on-loop-2 1, connection nbd 4 0, ");
  EXPECT_TRUE(world.run((*opened)->close()).ok());
}

// EXPORT_NAME, and behind it in the same bytes a write and a read: nothing that was said before the
// connection crossed is lost.
TEST_F(NbdServerGroup, WhatAClientSaysWithoutWaitingCrossesWithIt) {
  serve();
  for (size_t place = 0; place < kLoops; ++place) {
    std::vector<std::byte> words;
    Writer(words)
        .be(uint32_t{3})
        .be(kOptionMagic)
        .be(static_cast<uint32_t>(Option::kExportName))
        .be(static_cast<uint32_t>(name_of(place).size()))
        .text(name_of(place));
    for (Command command : {Command::kWrite, Command::kRead}) {
      size_t at = words.size();
      words.resize(at + kRequestBytes);
      encode_request({.command = command, .cookie = 5, .offset_bytes = 512, .length_bytes = 512},
                     words.data() + at);
      if (command == Command::kWrite) words.resize(words.size() + 512, std::byte{9});
    }
    auto talk = [&]() -> Task<Status> {
      BB_CO_ASSIGN(std::unique_ptr<Stream> stream, co_await dial());
      std::vector<std::byte> answer(kGreetingBytes + 10 + 2 * kSimpleReplyBytes + 512);
      Status status = (co_await stream->send_all(words)).status();
      if (status.ok()) status = co_await recv_exactly(stream.get(), answer);
      co_await stream->close();
      bool right = answer.back() == std::byte{9};
      if (status.ok() && !right) status = error(Code::k_corrupt, "other bytes");
      co_return status;
    };
    Status status = world.run(talk());
    EXPECT_TRUE(status.ok()) << status.to_string();
    EXPECT_EQ(devices[place].thread.load(), thread_of(place));
  }
}

TEST_F(NbdServerGroup, TlsCrossesWithTheConnection) {
  using test::psk;
  serve({}, {}, {.policy = TlsPolicy::kRequired, .context = test::tls_server({psk(1)})});
  auto ask = [this](std::string name, TlsPsk key) -> Task<Status> {
    BB_CO_ASSIGN(std::unique_ptr<Stream> stream, co_await dial());
    ClientConnection client(*world.reactor, std::move(stream));
    Status status = co_await client.establish(
        {.export_name = std::move(name), .tls = TlsPolicy::kRequired},
        test::tls_client(std::move(key)), 4, world.reactor->now_ns() + kSoonNs);
    co_await client.close();
    co_return status;
  };
  for (size_t place = 0; place < kLoops; ++place) {
    for (int i = 0; i < 3; ++i) {
      Status status = world.run(ask(name_of(place), psk(1)));
      EXPECT_TRUE(status.ok()) << status.to_string();
    }
    EXPECT_FALSE(world.run(ask(name_of(place), psk(2))).ok());
  }
}

// A new client ends the one before it, on whatever loop they meet.
TEST_F(NbdServerGroup, ExclusiveExportsAreTakenOver) {
  serve({.exclusive = true});
  for (size_t place = 0; place < kLoops; ++place) {
    auto first = world.run(open_device(world.context, uri(place)));
    ASSERT_TRUE(first.ok());
    auto second = world.run(open_device(world.context, uri(place)));
    ASSERT_TRUE(second.ok()) << second.status().to_string();
    StatsReport report;
    world.run(group->collect(&report));
    auto connections = std::count_if(report.objects.begin(), report.objects.end(),
                                     [](const auto& row) { return row.type == "connection"; });
    EXPECT_EQ(connections, 1) << place;
    EXPECT_TRUE(world.run((*second)->close()).ok());
    (void)world.run((*first)->close());
  }
}

// Those that are too many for the loop of the export they chose are turned away there.
TEST_F(NbdServerGroup, LimitsHoldForEachLoop) {
  serve({}, {.connections_max = 2});
  std::vector<std::unique_ptr<Device>> open;
  for (size_t place = 0; place < kLoops; ++place) {
    for (int i = 0; i < 2; ++i) {
      if (place == 0) continue;  // the first loop accepts, and has room for that
      auto opened = world.run(open_device(world.context, uri(place)));
      ASSERT_TRUE(opened.ok()) << opened.status().to_string();
      open.push_back(std::move(*opened));
    }
  }
  EXPECT_NE(world.run(use(world.context, uri(1), std::byte{1})), "ok");
  EXPECT_NE(world.run(use(world.context, uri(2), std::byte{1})), "ok");
  EXPECT_EQ(world.run(use(world.context, uri(0), std::byte{1})), "ok");
  for (auto& one : open) EXPECT_TRUE(world.run(one->close()).ok());
}

// Connections on their way from one thread to another while everything ends.
TEST_F(NbdServerGroup, StopsInTheMiddleOfAStorm) {
  for (int round = 0; round < 3; ++round) {
    serve({.exclusive = round == 2});
    std::vector<std::unique_ptr<Runtime>> hosts;
    hosts.reserve(4);
    std::atomic<int> left{0};
    for (int i = 0; i < 4; ++i) hosts.push_back(std::move(Runtime::create(true)).value());
    for (size_t i = 0; i < 24; ++i) {
      Runtime& host = *hosts[i % hosts.size()];
      ++left;
      auto go = [&host, where = uri(i % kLoops) + "&connect_timeout=1s"]() -> Task<Status> {
        for (int attempt = 0; attempt < 3; ++attempt) {
          (void)co_await use(host.context(), where, std::byte{1});
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
}  // namespace bb::io::nbd
