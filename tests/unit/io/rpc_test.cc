// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "io/reactor.h"
#include "io/rpc/rpc_client.h"
#include "io/rpc/rpc_server.h"
#include "io/tcp.h"

namespace bb::io::rpc {
namespace {

// What a daemon looks like: an object with member coroutines behind a table of methods.
struct Daemon {
  Context context;
  Event release;
  int waiting = 0;
  int ended = 0;

  explicit Daemon(Context c) : context(c), release(c.loop) {}
  Task<Result<Json>> echo(Json params) { co_return params; }
  Task<Result<Json>> fail(Json params) {
    auto fields = JsonFields::of(params, "fail");
    if (!fields.ok()) co_return fields.status();
    auto name = fields->text("name");
    if (!name.ok()) co_return name.status();
    co_return error(Code::k_no_space, "array \"{}\": 0 of 3 drives match", *name);
  }
  Task<Result<Json>> wait(Call* call) {
    ++waiting;
    call->notify("progress", {{"percent", 50}});
    co_await release.wait();
    ++ended;
    co_return Json("done");
  }
  Task<Result<Json>> huge() { co_return Json(std::string(kLineMax, 'x')); }

  void serve(RpcServer& server) {
    server.add("echo", [this](Json params, Call*) { return echo(std::move(params)); });
    server.add("fail", [this](Json params, Call*) { return fail(std::move(params)); });
    server.add("wait", [this](Json, Call* call) { return wait(call); });
    server.add("huge", [this](Json, Call*) { return huge(); });
  }
};

class Rpc : public testing::Test {
 protected:
  std::unique_ptr<Reactor> reactor = std::move(Reactor::create()).value();
  std::unique_ptr<Network> network = make_tcp_network(*reactor, nullptr);
  Context context{*reactor, *network, reactor.get(), nullptr};
  std::string path = fmt::format("{}bb-rpc-{}.sock", testing::TempDir(), ::getpid());
  Address at{"unix:" + path};
  Daemon daemon{context};

  uint64_t soon() const { return reactor->now_ns() + 5 * kNsPerSecond; }
  std::unique_ptr<RpcClient> client() {
    auto made = reactor->block_on(RpcClient::connect(context, at, soon()));
    return std::move(made).value();
  }
  Result<Json> call(RpcClient& client, std::string method, Json params = Json::object()) {
    return reactor->block_on(client.call(std::move(method), std::move(params), soon()));
  }
};

TEST_F(Rpc, CallsAndErrors) {
  RpcServer server(context);
  daemon.serve(server);
  ASSERT_TRUE(server.listen(at).ok());
  struct stat st{};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);

  auto c = client();
  EXPECT_EQ(*call(*c, "echo", {{"a", 1}}), Json({{"a", 1}}));
  auto failed = call(*c, "fail", {{"name", "db"}});
  EXPECT_EQ(failed.code(), Code::k_no_space);
  EXPECT_EQ(failed.status().text(), "array \"db\": 0 of 3 drives match");
  EXPECT_EQ(call(*c, "fail").code(), Code::k_invalid_argument);
  EXPECT_EQ(call(*c, "nothing").code(), Code::k_not_supported);
  EXPECT_EQ(call(*c, "huge").code(), Code::k_no_space);
  EXPECT_EQ(call(*c, "echo", {{"x", std::string(kLineMax, 'x')}}).code(), Code::k_invalid_argument);
  EXPECT_EQ(*call(*c, "echo", {{"still", "here"}}), Json({{"still", "here"}}));
  reactor->block_on(c->close());
  reactor->block_on(server.stop());
}

Task<void> one_call(RpcClient* client, std::string method, uint64_t deadline_ns,
                    std::vector<Result<Json>>* results) {
  auto result = co_await client->call(std::move(method), Json::object(), deadline_ns);
  results->push_back(std::move(result));
}

Task<void> overlap(Context context, RpcClient* client, Daemon* daemon, uint64_t until,
                   std::vector<Result<Json>>* results) {
  TaskGroup group(context.loop);
  for (int i = 0; i < 3; ++i) group.spawn(one_call(client, "wait", until, results));
  while (daemon->waiting < 2) co_await context.loop.sleep_for(kNsPerMs);
  co_await context.loop.sleep_for(5 * kNsPerMs);
  daemon->release.set();
  co_await group.join();
}

TEST_F(Rpc, OverlappingCallsHaveALimitAndTellProgress) {
  RpcServer server(context, {.calls_max = 2});
  daemon.serve(server);
  ASSERT_TRUE(server.listen(at).ok());
  auto c = client();
  std::vector<std::string> events;
  c->on_event([&events](const std::string& method, const Json& params) {
    events.push_back(method + dump_json(params));
  });
  std::vector<Result<Json>> results;
  reactor->block_on(overlap(context, c.get(), &daemon, soon(), &results));
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0].code(), Code::k_busy);
  EXPECT_TRUE(results[1].ok() && results[2].ok());
  EXPECT_EQ(events, (std::vector<std::string>(2, R"(progress{"percent":50})")));
  reactor->block_on(c->close());
  reactor->block_on(server.stop());
}

TEST_F(Rpc, ADeadlinePassesButTheHandlerRunsOn) {
  RpcServer server(context);
  daemon.serve(server);
  ASSERT_TRUE(server.listen(at).ok());
  auto c = client();
  auto late = reactor->block_on(c->call("wait", Json::object(), reactor->now_ns() + 20'000'000));
  EXPECT_EQ(late.code(), Code::k_timed_out);
  EXPECT_EQ(*call(*c, "echo"), Json::object());  // the late answer confuses nobody
  reactor->block_on(c->close());
  EXPECT_EQ(daemon.ended, 0);
  daemon.release.set();
  reactor->block_on(server.stop());
  EXPECT_EQ(daemon.ended, 1);
}

TEST_F(Rpc, TooManyConnectionsAndALostDaemon) {
  RpcServer server(context, {.connections_max = 1});
  daemon.serve(server);
  ASSERT_TRUE(server.listen(at).ok());
  auto first = client();
  EXPECT_TRUE(call(*first, "echo").ok());
  auto second = client();
  auto refused = call(*second, "echo");
  EXPECT_EQ(refused.code(), Code::k_busy) << refused.status().to_string();
  reactor->block_on(second->close());
  reactor->block_on(server.stop());
  EXPECT_EQ(call(*first, "echo").code(), Code::k_unavailable);
  reactor->block_on(first->close());
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST_F(Rpc, RawBytes) {
  RpcServer server(context);
  daemon.serve(server);
  ASSERT_TRUE(server.listen(at).ok());
  auto connected = reactor->block_on(network->connect(at, soon()));
  std::unique_ptr<Stream> stream = std::move(connected).value();
  LineChannel raw(*reactor, std::move(stream));
  raw.push("nonsense\n");
  auto answer = reactor->block_on(raw.next_line());
  EXPECT_NE((*answer)->find("-32700"), std::string::npos);
  raw.push(R"({"jsonrpc":"2.0","id":9,"method":"echo"})"
           "\r\n");
  answer = reactor->block_on(raw.next_line());
  EXPECT_EQ(**answer, R"({"id":9,"jsonrpc":"2.0","result":{}})");
  raw.push(std::string(kLineMax + 2, 'x'));
  answer = reactor->block_on(raw.next_line());
  EXPECT_NE((*answer)->find("a line of more than 1048576 bytes"), std::string::npos);
  reactor->block_on(raw.close());
  reactor->block_on(server.stop());
}

TEST(ControlAddress, OnlyLocalUnlessInsecure) {
  for (const char* good : {"unix:/run/x", "127.0.0.1:1", "[::1]:7", "127.9.9.9:0"}) {
    EXPECT_TRUE(check_control_address({good}, false).ok()) << good;
  }
  for (const char* open : {":80", "0.0.0.0:80", "[::]:80", "10.0.0.1:80", "127.example.org:80"}) {
    Status refused = check_control_address({open}, false);
    EXPECT_EQ(refused.code(), Code::k_not_supported) << open;
    EXPECT_NE(refused.text().find("no TLS yet"), std::string::npos);
    EXPECT_TRUE(check_control_address({open}, true).ok());
  }
}

}  // namespace
}  // namespace bb::io::rpc
