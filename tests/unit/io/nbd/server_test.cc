// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/server.h"

#include <gtest/gtest.h>

#include <map>

#include "io/nbd/handshake.h"
#include "io/runtime.h"

namespace bb::io::nbd {
namespace {

constexpr uint64_t kSize = 1 << 20;

// Memory whose completions wait until the test lets them go.
class SlowDevice final : public Device {
 public:
  SlowDevice() : memory(kSize) {
    info_.uri = "slow:";
    info_.size_bytes = kSize;
    info_.transfer_max_bytes = 64 << 10;
  }
  Task<Status> close() override { co_return Status(); }
  void let_go() {
    std::vector<IoRequest*> now;
    now.swap(held);
    for (IoRequest* each : now) complete(*each);
  }

  std::vector<std::byte> memory;
  std::vector<IoRequest*> held;
  std::map<IoOp, int> seen;
  bool hold = false;
  Status failure;

 protected:
  void do_submit(IoRequest& request) override {
    ++seen[request.op];
    if (hold) {
      held.push_back(&request);
    } else {
      complete(request);
    }
  }

 private:
  void complete(IoRequest& request) {
    Bytes range = Bytes(memory).subspan(request.offset_bytes, request.length_bytes);
    if (failure.ok() && request.op == IoOp::kRead)
      iov_scatter(request.iov, request.iov_count, 0, range);
    if (failure.ok() && request.op == IoOp::kWrite)
      iov_gather(request.iov, request.iov_count, 0, range);
    if (failure.ok() && request.op == IoOp::kWriteZeroes)
      std::fill(range.begin(), range.end(), std::byte{0});
    request.done(&request, failure);
  }
};

// As little of a client as the cases need.
struct Client {
  std::unique_ptr<Stream> stream;
  uint64_t cookie = 0;

  static Task<Result<std::unique_ptr<Client>>> connect(Context context, std::string address,
                                                       std::string name) {
    auto client = std::make_unique<Client>();
    BB_CO_ASSIGN(client->stream, co_await context.network.connect(
                                     {address}, context.loop.now_ns() + 1'000'000'000));
    std::byte greeting[kGreetingBytes];
    Status greeted = co_await recv_exactly(client->stream.get(), greeting);
    if (!greeted.ok()) {
      co_await client->stream->close();
      co_return greeted;
    }
    std::vector<std::byte> out;
    Writer(out)
        .be(uint32_t{3})
        .be(kOptionMagic)
        .be(static_cast<uint32_t>(Option::kExportName))
        .be(static_cast<uint32_t>(name.size()))
        .text(name);
    BB_CO_TRY(co_await client->stream->send_all(out));
    std::byte answer[10];
    Status got = co_await recv_exactly(client->stream.get(), answer);
    if (!got.ok()) {
      co_await client->stream->close();
      co_return got;
    }
    co_return client;
  }

  Task<Status> send(Command command, uint64_t offset, uint32_t length, std::byte fill = {},
                    uint16_t flags = 0) {
    std::vector<std::byte> out(kRequestBytes);
    encode_request({.flags = flags,
                    .command = command,
                    .cookie = ++cookie,
                    .offset_bytes = offset,
                    .length_bytes = length},
                   out.data());
    if (command == Command::kWrite) out.resize(out.size() + length, fill);
    co_return (co_await stream->send_all(out)).status();
  }

  // The error of the next reply, and the data behind it when it is a read that went well.
  Task<Result<Errno>> reply(std::vector<std::byte>* data) {
    std::byte header[kSimpleReplyBytes];
    BB_CO_TRY(co_await recv_exactly(stream.get(), header));
    auto number = static_cast<Errno>(load_be<uint32_t>(header + 4));
    if (data != nullptr && number == Errno::kNone) {
      BB_CO_TRY(co_await recv_exactly(stream.get(), *data));
    }
    co_return number;
  }

  Task<Result<Errno>> ask(Command command, uint64_t offset, uint32_t length, std::byte fill = {},
                          uint16_t flags = 0) {
    BB_CO_TRY(co_await send(command, offset, length, fill, flags));
    std::vector<std::byte> data(command == Command::kRead ? length : 0);
    auto number = co_await reply(command == Command::kRead ? &data : nullptr);
    if (number.ok() && command == Command::kRead && *number == Errno::kNone) {
      for (std::byte b : data) {
        if (b != fill) co_return error(Code::k_corrupt, "read something else");
      }
    }
    co_return number;
  }
};

struct World {
  std::unique_ptr<Runtime> runtime = std::move(Runtime::create(false)).value();
  Context context = runtime->context();
  SlowDevice device;
  std::unique_ptr<Server> server;
  std::string address;

  explicit World(ServerLimits limits = {}) {
    server = std::make_unique<Server>(context, limits);
    EXPECT_TRUE(server->add_export("d", device).ok());
    address = server->start({"127.0.0.1:0"}).value();
  }
  template <typename T>
  T run(Task<T> task) {
    return runtime->reactor().block_on(std::move(task));
  }
  ~World() { run(server->stop()); }
};

Task<Status> expect(Client* client, Errno want, Command command, uint64_t offset, uint32_t length,
                    std::byte fill = {}, uint16_t flags = 0) {
  auto got = co_await client->ask(command, offset, length, fill, flags);
  if (!got.ok()) co_return got.status();
  if (*got != want) {
    co_return error(Code::k_internal, "command {} answered {} instead of {}",
                    static_cast<int>(command), static_cast<int>(*got), static_cast<int>(want));
  }
  co_return Status();
}

Task<Status> all_commands(World* world) {
  BB_CO_ASSIGN(auto client, co_await Client::connect(world->context, world->address, "d"));
  Client* c = client.get();
  constexpr std::byte kFive{5};
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kWrite, 4096, 8192, kFive));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kRead, 4096, 8192, kFive));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kFlush, 0, 0));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kWriteZeroes, 4096, 4096));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kRead, 4096, 4096));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kRead, 8192, 4096, kFive));
  // Larger than one transfer of the device: split, and whole again.
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kWrite, 0, 1 << 20, kFive));
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kRead, 0, 1 << 20, kFive));
  // Refusals, after which the connection still works.
  BB_CO_TRY(co_await expect(c, Errno::kInvalid, Command::kWrite, 1, 512));
  BB_CO_TRY(co_await expect(c, Errno::kNoSpace, Command::kWrite, kSize, 300 << 10));
  BB_CO_TRY(co_await expect(c, Errno::kInvalid, Command::kTrim, 0, 512));
  BB_CO_TRY(co_await expect(c, Errno::kNotSupported, Command::kWriteZeroes, 0, 512, {}, kFastZero));
  world->device.failure = error(Code::k_unavailable, "gone");
  BB_CO_TRY(co_await expect(c, Errno::kIo, Command::kRead, 0, 512));
  BB_CO_TRY(co_await expect(c, Errno::kIo, Command::kFlush, 0, 0));
  world->device.failure = Status();
  BB_CO_TRY(co_await expect(c, Errno::kNone, Command::kRead, 512, 512, kFive));
  auto list = world->server->connections();
  if (list.size() != 1 || list[0].counters.errors != 6 || list[0].counters.writes != 2) {
    co_return error(Code::k_internal, "counters: {} connections, {} errors, {} writes", list.size(),
                    list[0].counters.errors, list[0].counters.writes);
  }
  co_await c->stream->close();
  co_return Status();
}

TEST(NbdServer, CommandsErrorsAndCounters) {
  World world;
  Status status = world.run(all_commands(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(world.device.seen[IoOp::kWrite], 1 + 16);
}

Task<Status> exhausts(World* world, uint32_t requests) {
  BB_CO_ASSIGN(auto client, co_await Client::connect(world->context, world->address, "d"));
  world->device.hold = true;
  for (uint32_t i = 0; i < requests; ++i) {
    BB_CO_TRY(co_await client->send(Command::kRead, 0, 4096));
  }
  co_await world->context.loop.sleep_for(20'000'000);
  size_t held = world->device.held.size();
  world->device.hold = false;
  world->device.let_go();
  std::vector<std::byte> data(4096);
  for (uint32_t i = 0; i < requests; ++i) {
    auto got = co_await client->reply(&data);
    if (!got.ok()) co_return got.status();
  }
  co_await client->stream->close();
  if (held != 8) co_return error(Code::k_internal, "{} requests at the device", held);
  co_return Status();
}

TEST(NbdServer, StopsReadingAtItsLimits) {
  {
    World world({.requests_max = 8});
    Status status = world.run(exhausts(&world, 50));
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  World world({.request_bytes_max = 8 * 4096});
  Status status = world.run(exhausts(&world, 50));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

Task<void> let_go_later(World* world) {
  co_await world->context.loop.sleep_for(20'000'000);
  EXPECT_EQ(world->device.held.size(), 1u);
  world->device.hold = false;
  world->device.let_go();
}

Task<Status> removes_while_busy(World* world) {
  BB_CO_ASSIGN(auto client, co_await Client::connect(world->context, world->address, "d"));
  world->device.hold = true;
  BB_CO_TRY(co_await client->send(Command::kRead, 0, 4096));
  while (world->device.held.empty()) co_await world->context.loop.sleep_for(1'000'000);
  TaskGroup group(world->context.loop);
  group.spawn(let_go_later(world));
  BB_CO_TRY(co_await world->server->remove_export("d"));
  if (!world->device.held.empty()) co_return error(Code::k_internal, "removed too early");
  std::vector<std::byte> data(4096);
  auto got = co_await client->reply(&data);
  if (!got.ok() || *got != Errno::kNone) co_return error(Code::k_internal, "the reply was lost");
  co_await client->stream->close();
  co_await group.join();
  if ((co_await world->server->remove_export("d")).code() != Code::k_not_found) {
    co_return error(Code::k_internal, "removed twice");
  }
  auto again = co_await Client::connect(world->context, world->address, "d");
  co_return again.ok() ? error(Code::k_internal, "connected to nothing") : Status();
}

TEST(NbdServer, RemovingAnExportAnswersWhatIsInFlight) {
  World world;
  Status status = world.run(removes_while_busy(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

Task<Status> leaves_in_the_middle(World* world) {
  BB_CO_ASSIGN(auto client, co_await Client::connect(world->context, world->address, "d"));
  world->device.hold = true;
  BB_CO_TRY(co_await client->send(Command::kWrite, 0, 4096));
  // Half a write, then nothing.
  std::vector<std::byte> half(kRequestBytes + 1000);
  encode_request({.command = Command::kWrite, .cookie = 9, .length_bytes = 300 << 10}, half.data());
  BB_CO_TRY(co_await client->stream->send_all(half));
  while (world->device.held.empty()) co_await world->context.loop.sleep_for(1'000'000);
  co_await client->stream->close();
  client.reset();
  co_await world->context.loop.sleep_for(20'000'000);
  if (world->server->connections().size() != 1) {
    co_return error(Code::k_internal, "ended with a request at the device");
  }
  world->device.let_go();
  co_await world->context.loop.sleep_for(20'000'000);
  co_return world->server->connections().empty() ? Status()
                                                 : error(Code::k_internal, "still connected");
}

TEST(NbdServer, AClientThatLeavesInTheMiddleIsCleanedUpAfterItsRequests) {
  World world;
  Status status = world.run(leaves_in_the_middle(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

Task<void> connect_to_x(World* world, std::unique_ptr<Client>* into) {
  auto client = co_await Client::connect(world->context, world->address, "x");
  EXPECT_TRUE(client.ok()) << client.status().to_string();
  if (client.ok()) *into = std::move(client).value();
}

// The first has a write at the device and another one in its socket: the second is let in when the
// one has ended, and the other never happens.
Task<Status> takes_over(World* world) {
  BB_CO_ASSIGN(auto first, co_await Client::connect(world->context, world->address, "x"));
  world->device.hold = true;
  BB_CO_TRY(co_await first->send(Command::kWrite, 0, 4096, std::byte{1}));
  while (world->device.held.empty()) co_await world->context.loop.sleep_for(1'000'000);
  TaskGroup group(world->context.loop);
  std::unique_ptr<Client> second;
  group.spawn(connect_to_x(world, &second));
  co_await world->context.loop.sleep_for(20'000'000);
  if (second != nullptr) co_return error(Code::k_internal, "let in too early");
  Status late = co_await first->send(Command::kWrite, 0, 4096, std::byte{2});
  world->device.hold = false;
  world->device.let_go();
  co_await group.join();
  if (second == nullptr) co_return error(Code::k_internal, "never let in");
  BB_CO_TRY(co_await expect(second.get(), Errno::kNone, Command::kRead, 0, 4096, std::byte{1}));
  int writes = world->device.seen[IoOp::kWrite];
  co_await first->stream->close();
  co_await second->stream->close();
  co_return writes == 1 ? Status() : error(Code::k_internal, "{} writes, {}", writes, late.text());
}

TEST(NbdServer, AnExclusiveExportIsTakenOver) {
  World world;
  ASSERT_TRUE(world.server->add_export("x", world.device, {.exclusive = true}).ok());
  Status status = world.run(takes_over(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

// One that has said goodbye and does not read its replies must not hold the export until its stall
// is noticed.
Task<Status> takes_over_from_the_deaf(World* world) {
  BB_CO_ASSIGN(auto first, co_await Client::connect(world->context, world->address, "x"));
  for (int i = 0; i < 64; ++i) BB_CO_TRY(co_await first->send(Command::kRead, 0, 1 << 20));
  BB_CO_TRY(co_await first->send(Command::kDisconnect, 0, 0));
  co_await world->context.loop.sleep_for(20'000'000);
  BB_CO_ASSIGN(auto second, co_await Client::connect(world->context, world->address, "x"));
  BB_CO_TRY(co_await expect(second.get(), Errno::kNone, Command::kRead, 0, 4096));
  co_await first->stream->close();
  co_await second->stream->close();
  co_return Status();
}

TEST(NbdServer, AnExclusiveExportIsTakenOverFromAClientThatDoesNotRead) {
  World world;
  ASSERT_TRUE(world.server->add_export("x", world.device, {.exclusive = true}).ok());
  Status status = world.run(takes_over_from_the_deaf(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

Task<Status> stalls(World* world) {
  auto stream = co_await world->context.network.connect(
      {world->address}, world->context.loop.now_ns() + 1'000'000'000);
  BB_CO_TRY(stream);
  std::byte greeting[kGreetingBytes];
  BB_CO_TRY(co_await recv_exactly(stream->get(), greeting));
  auto got = co_await (*stream)->recv_some(greeting);  // we say nothing: the server ends it
  co_await (*stream)->close();
  co_return got.ok() && *got > 0 ? error(Code::k_internal, "it went on") : Status();
}

TEST(NbdServer, EndsAHandshakeThatStalls) {
  World world({.handshake_ns_max = 1'000'000});
  Status status = world.run(stalls(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

Task<Status> too_many(World* world) {
  BB_CO_ASSIGN(auto first, co_await Client::connect(world->context, world->address, "d"));
  auto second = co_await Client::connect(world->context, world->address, "d");
  co_await first->stream->close();
  co_return second.ok() ? error(Code::k_internal, "two connections") : Status();
}

TEST(NbdServer, RefusesConnectionsBeyondItsLimit) {
  World world({.connections_max = 1});
  Status status = world.run(too_many(&world));
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST(NbdServer, NamesAreChecked) {
  World world;
  EXPECT_EQ(world.server->add_export("d", world.device).code(), Code::k_already_exists);
  EXPECT_EQ(world.server->add_export("", world.device).code(), Code::k_invalid_argument);
  EXPECT_EQ(world.server->add_export(std::string(5000, 'x'), world.device).code(),
            Code::k_invalid_argument);
  EXPECT_EQ(world.server->start({world.address}).code(), Code::k_already_exists);
}

}  // namespace
}  // namespace bb::io::nbd
