// SPDX-License-Identifier: Apache-2.0
#include "io/task.h"

#include <gtest/gtest.h>

#include "io/device_uri.h"
#include "io/reactor.h"
#include "io/sync.h"
#include "io/tcp.h"

namespace bb::io {
namespace {

std::unique_ptr<Reactor> make_reactor() { return std::move(Reactor::create()).value(); }

Task<int> instant(int value) { co_return value; }

Task<int> sum_of_instants(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await instant(1);
  co_return sum;
}

// With symmetric transfer this overflows the stack in unoptimised builds.
TEST(Task, AMillionInstantAwaitsNeedNoStack) {
  auto reactor = make_reactor();
  EXPECT_EQ(reactor->block_on(sum_of_instants(1'000'000)), 1'000'000);
}

Task<void> sleep_then_count(Loop* loop, int* count) {
  co_await loop->sleep_for(1'000'000);
  ++*count;
}

Task<int> spawn_many(Loop* loop, int tasks) {
  int count = 0;
  TaskGroup group(*loop);
  for (int i = 0; i < tasks; ++i) group.spawn(sleep_then_count(loop, &count));
  co_await group.join();
  co_return count;
}

TEST(TaskGroup, JoinsAll) {
  auto reactor = make_reactor();
  EXPECT_EQ(reactor->block_on(spawn_many(reactor.get(), 100)), 100);
}

Task<void> set_later(Loop* loop, Event* event) {
  co_await loop->sleep_for(2'000'000);
  event->set();
}

Task<std::pair<bool, bool>> two_waits(Loop* loop) {
  Event event(*loop);
  TaskGroup group(*loop);
  bool early = co_await event.wait_until(loop->now_ns() + 100'000);
  group.spawn(set_later(loop, &event));
  bool late = co_await event.wait_until(loop->now_ns() + 1'000'000'000);
  co_await group.join();
  co_return std::pair(early, late);
}

TEST(Event, WaitsUntilADeadline) {
  auto reactor = make_reactor();
  EXPECT_EQ(reactor->block_on(two_waits(reactor.get())), std::pair(false, true));
}

Task<Status> write_and_read(Context context, std::string uri) {
  BB_CO_ASSIGN(std::unique_ptr<Device> device, co_await open_device(context, uri));
  std::vector<std::byte> out(8192, std::byte{7});
  std::vector<std::byte> in(8192);
  BB_CO_TRY(co_await device->write(4096, out, true));
  BB_CO_TRY(co_await device->flush());
  BB_CO_TRY(co_await device->read(4096, in));
  if (in != out) co_return error(Code::k_corrupt, "read back something else");
  BB_CO_TRY(co_await device->write_zeroes(4096, 4096));
  BB_CO_TRY(co_await device->read(4096, in));
  if (!all_zero(Bytes(in).subspan(0, 4096)) || in[5000] != std::byte{7}) {
    co_return error(Code::k_corrupt, "write zeroes hit something else");
  }
  co_return co_await device->close();
}

TEST(Device, FileAndMemoryKeepWhatIsWritten) {
  auto reactor = make_reactor();
  auto network = make_tcp_network(*reactor, nullptr);
  Context context{.loop = *reactor, .network = *network, .reactor = reactor.get()};
  std::string path = testing::TempDir() + "/bb-task-test.img";
  for (std::string uri : {std::string("mem:1M?huge_pages=1"), "file:" + path + "?create=1&size=1M",
                          "file:" + path + "?direct=0"}) {
    Status status = reactor->block_on(write_and_read(context, uri));
    EXPECT_TRUE(status.ok()) << uri << ": " << status.to_string();
  }
  std::remove(path.c_str());
}

Task<void> echo_once(Listener* listener) {
  auto stream = co_await listener->accept();
  std::byte buffer[64];
  auto got = co_await (*stream)->recv_some(buffer);
  EXPECT_TRUE((co_await (*stream)->send_all(ConstBytes(buffer, *got))).ok());
  co_await (*stream)->close();
}

Task<std::string> ask(Context context) {
  auto listener = context.network.listen({"127.0.0.1:0"});
  TaskGroup group(context.loop);
  group.spawn(echo_once(listener->get()));
  auto stream = co_await context.network.connect({(*listener)->local_address()},
                                                 context.loop.now_ns() + 1'000'000'000);
  EXPECT_TRUE((co_await (*stream)->send_all(as_bytes("hello"))).ok());
  std::byte buffer[5];
  Status got = co_await recv_exactly(stream->get(), buffer);
  co_await (*stream)->close();
  co_await group.join();
  co_await (*listener)->close();
  co_return got.ok() ? std::string(as_text(buffer)) : got.to_string();
}

TEST(Stream, EchoOverTcp) {
  auto reactor = make_reactor();
  auto network = make_tcp_network(*reactor, nullptr);
  Context context{.loop = *reactor, .network = *network, .reactor = reactor.get()};
  EXPECT_EQ(reactor->block_on(ask(context)), "hello");
}

}  // namespace
}  // namespace bb::io
