// SPDX-License-Identifier: Apache-2.0
#include "io/loop.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "io/frame_pool.h"
#include "io/sync.h"
#include "support/world.h"

namespace bb::io {
namespace {

using test::World;

TEST(TimerQueue, FiresInOrderOfDeadlineThenArming) {
  struct Named : Timer {
    int name = 0;
  };
  TimerQueue queue;
  Named timers[4];
  for (int i = 0; i < 4; ++i) timers[i].name = i;
  queue.arm(timers[0], 20);
  queue.arm(timers[1], 10);
  queue.arm(timers[2], 10);
  queue.arm(timers[3], 5);
  queue.arm(timers[3], 30);  // arming again moves it
  EXPECT_EQ(queue.next_deadline_ns(), 10u);
  EXPECT_EQ(queue.pop_due(9), nullptr);
  std::vector<int> order;
  while (Timer* timer = queue.pop_due(100)) order.push_back(static_cast<Named*>(timer)->name);
  EXPECT_EQ(order, (std::vector{1, 2, 0, 3}));
  queue.disarm(timers[0]);  // harmless
  EXPECT_EQ(queue.next_deadline_ns(), std::nullopt);
}

Task<void> sleep(Loop* loop, uint64_t ns) { co_await loop->sleep_for(ns); }

// A timer already due when the loop comes round used to fire before the wait, which then was
// without an end.
TEST(Reactor, ATimerDueAtOnceEndsTheWait) {
  World world;
  for (int i = 0; i < 1000; ++i) world.run(sleep(world.reactor.get(), 0));
  for (int i = 0; i < 200; ++i) world.run(sleep(world.reactor.get(), 1));
}

// Whoever measures reads no clock; who was away for long says so, and a sleep is no part of a
// batch.
Task<void> see_batches(Loop* loop) {
  uint64_t began_ns = loop->batch_ns();
  while (loop->now_ns() <= began_ns + 1000) {
  }
  EXPECT_EQ(loop->batch_ns(), began_ns);
  loop->begin_batch();
  EXPECT_GT(loop->batch_ns(), began_ns + 1000);
  uint64_t slept_ns = loop->now_ns();
  co_await loop->sleep_for(1'000'000);
  EXPECT_GE(loop->batch_ns(), slept_ns + 1'000'000);
}

TEST(Reactor, ABatchHasOneTimeUntilAnotherBegins) {
  World world;
  for (int i = 0; i < 2; ++i) world.run(see_batches(world.reactor.get()));
  uint64_t idle_since_ns = world.reactor->now_ns();
  while (world.reactor->now_ns() <= idle_since_ns + 1000) {
  }
  auto begun = [](Loop* loop) -> Task<uint64_t> { co_return loop->batch_ns(); };
  EXPECT_GT(world.run(begun(world.reactor.get())), idle_since_ns + 1000);  // not when it last ran
}

struct RemoteMark : Work {
  Event* event = nullptr;
  std::atomic<int>* count = nullptr;
};

Task<int> wait_for_remotes(Loop* loop, int threads, int each) {
  Event event(*loop);
  std::atomic<int> count = 0;
  int total = threads * each;
  std::vector<RemoteMark> marks(static_cast<size_t>(total));
  for (RemoteMark& mark : marks) {
    mark.event = &event;
    mark.count = &count;
    mark.run = [](Work* work) {
      auto* self = static_cast<RemoteMark*>(work);
      self->count->fetch_add(1);
      self->event->set();
    };
  }
  std::vector<std::thread> senders;
  for (int t = 0; t < threads; ++t) {
    senders.emplace_back([&, t] {
      for (int i = 0; i < each; ++i) loop->post_remote(marks[static_cast<size_t>(t * each + i)]);
    });
  }
  while (count.load() < total) {
    event.reset();
    if (count.load() < total) co_await event.wait();
  }
  for (std::thread& sender : senders) sender.join();
  co_return count.load();
}

TEST(Reactor, TakesWorkFromOtherThreads) {
  World world;
  EXPECT_EQ(world.run(wait_for_remotes(world.reactor.get(), 4, 5000)), 20000);
}

TEST(Reactor, StopsFromAnotherThread) {
  World world;
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    world.reactor->stop();
  });
  world.reactor->run();
  other.join();
  world.reactor->stop();
  world.reactor->run();  // stopped before it began: returns at once
}

TEST(Reactor, CanBeDrivenByAHostsOwnLoop) {
  World world;
  int fd = world.reactor->poll_fd().value();
  struct Flag : Timer {
    bool fired = false;
  } flag;
  flag.fire = [](Timer* timer) { static_cast<Flag*>(timer)->fired = true; };
  world.reactor->arm(flag, world.reactor->now_ns() + 3'000'000);
  int polls = 0;
  while (!flag.fired && polls < 100) {
    world.reactor->prepare_poll();
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&one, 1, 2000), 1);
    world.reactor->run_once(false);
    ++polls;
  }
  EXPECT_TRUE(flag.fired);
  EXPECT_LT(polls, 20) << "the descriptor is readable with nothing to do";
  // and a call from another thread wakes it
  struct Remote : Work {
    bool ran = false;
  } remote;
  remote.run = [](Work* work) { static_cast<Remote*>(work)->ran = true; };
  world.reactor->prepare_poll();
  std::thread other([&] { world.reactor->post_remote(remote); });
  for (int i = 0; i < 20 && !remote.ran; ++i) {
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&one, 1, 2000), 1);
    world.reactor->run_once(false);
    world.reactor->prepare_poll();
  }
  other.join();
  EXPECT_TRUE(remote.ran);
}

// A descriptor that could be made by half only used to be taken for whole at the second call.
TEST(Reactor, PollDescriptorAfterTheLimitOfFiles) {
  World world;
  world.reactor->run_once(false);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  int next = dup(0);
  close(next);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(next) + 1;  // for one descriptor of three
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
  auto refused = world.reactor->poll_fd();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(refused.code(), Code::k_internal);
  auto fd = world.reactor->poll_fd();
  ASSERT_TRUE(fd.ok()) << fd.status().to_string();
  struct Remote : Work {
  } remote;
  remote.run = [](Work*) {};
  world.reactor->post_remote(remote);
  pollfd one{.fd = *fd, .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&one, 1, 2000), 1) << "nothing rings it";
  world.reactor->run_once(false);
}

Task<std::vector<int>> offload_in_order(World* world) {
  std::vector<int> order;
  std::thread::id here = std::this_thread::get_id();
  for (int i = 0; i < 200; ++i) {
    bool elsewhere = false;
    co_await world->offload->run(*world->reactor, [&] {
      elsewhere = std::this_thread::get_id() != here;
      order.push_back(i);
    });
    EXPECT_TRUE(elsewhere);
    EXPECT_EQ(std::this_thread::get_id(), here);
  }
  co_return order;
}

TEST(Offload, RunsElsewhereAndResumesHere) {
  World world;
  EXPECT_EQ(world.run(offload_in_order(&world)).size(), 200u);
}

TEST(FramePool, GivesFramesBackOfTheirSize) {
  void* small = frame_allocate(100);
  void* large = frame_allocate(5000);
  std::memset(small, 1, 100);
  std::memset(large, 1, 5000);
  frame_free(small, 100);
  frame_free(large, 5000);
  void* again = frame_allocate(128);  // the same class as 100
  std::memset(again, 2, 128);
  std::thread([&] { frame_free(again, 128); }).join();  // another thread than it came from
}

// Sync primitives.

Task<void> hold(Loop* loop, Semaphore* semaphore, int* now, int* most) {
  co_await semaphore->acquire();
  *most = std::max(*most, ++*now);
  co_await loop->sleep_for(100'000);
  --*now;
  semaphore->release();
}
Task<int> most_at_once(Loop* loop, uint64_t permits, int tasks) {
  Semaphore semaphore(*loop, permits);
  int now = 0;
  int most = 0;
  TaskGroup group(*loop);
  for (int i = 0; i < tasks; ++i) group.spawn(hold(loop, &semaphore, &now, &most));
  co_await group.join();
  EXPECT_TRUE(semaphore.try_acquire());
  co_return most;
}

TEST(Semaphore, LetsSoManyIn) {
  World world;
  EXPECT_EQ(world.run(most_at_once(world.reactor.get(), 3, 20)), 3);
}

Task<void> add_twice(Loop* loop, Mutex* mutex, int* value) {
  auto held = co_await mutex->scoped();
  int seen = *value;
  co_await loop->yield();
  *value = seen + 1;
}
Task<int> count_under_mutex(Loop* loop) {
  Mutex mutex(*loop);
  int value = 0;
  TaskGroup group(*loop);
  for (int i = 0; i < 50; ++i) group.spawn(add_twice(loop, &mutex, &value));
  co_await group.join();
  co_return value;
}

TEST(Mutex, KeepsOthersOut) {
  World world;
  EXPECT_EQ(world.run(count_under_mutex(world.reactor.get())), 50);
}

Task<void> stay(Loop* loop, Gate* gate, std::vector<int>* log) {
  co_await loop->sleep_for(1'000'000);
  log->push_back(1);
  gate->leave();
}
Task<std::vector<int>> close_gate(Loop* loop) {
  std::vector<int> log;
  Gate gate(*loop);
  TaskGroup group(*loop);
  EXPECT_TRUE(gate.enter());
  EXPECT_TRUE(gate.enter());
  group.spawn(stay(loop, &gate, &log));
  group.spawn(stay(loop, &gate, &log));
  co_await gate.close();
  log.push_back(2);
  EXPECT_FALSE(gate.enter());
  co_await gate.close();  // a second time: at once
  co_await group.join();
  co_return log;
}

TEST(Gate, ClosesAfterTheLastHasLeft) {
  World world;
  EXPECT_EQ(world.run(close_gate(world.reactor.get())), (std::vector{1, 1, 2}));
}

Task<void> set_at(Loop* loop, Event* event, uint64_t deadline_ns) {
  co_await loop->sleep_until(deadline_ns);
  event->set();
}
Task<int> race_of_event_and_deadline(Loop* loop) {
  int won = 0;
  for (int i = 0; i < 300; ++i) {
    Event event(*loop);
    TaskGroup group(*loop);
    uint64_t at = loop->now_ns() + 50'000;
    group.spawn(set_at(loop, &event, at));
    bool set = co_await event.wait_until(at + static_cast<uint64_t>(i % 3) - 1);
    won += set ? 1 : 0;
    co_await group.join();
  }
  co_return won;
}

TEST(Event, SetAndDeadlineAtOnceWakeOnce) {
  World world;
  EXPECT_LE(world.run(race_of_event_and_deadline(world.reactor.get())), 300);
}

Task<void> note_wait(Event* event, uint64_t deadline_ns, bool* set) {
  *set = co_await event->wait_until(deadline_ns);
}
Task<bool> set_and_drop(Loop* loop) {
  auto event = std::make_unique<Event>(*loop);
  TaskGroup group(*loop);
  bool set = false;
  group.spawn(note_wait(event.get(), loop->now_ns() + 1'000'000'000, &set));
  event->set();
  event.reset();  // before the one that waited has run
  co_await group.join();
  co_return set;
}

// Found by reading: the woken side used to ask the event for its loop.
TEST(Event, MayBeGoneBeforeTheOneItWokeRuns) {
  World world;
  EXPECT_TRUE(world.run(set_and_drop(world.reactor.get())));
}

}  // namespace
}  // namespace bb::io
