// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "io/device.h"
#include "io/runtime.h"
#include "support/world.h"

namespace bb::test {

inline constexpr size_t kLoops = 3;

// Memory that knows which thread used it last. One that holds keeps the next request.
class Witness final : public io::Device {
 public:
  Witness() : memory_(1 << 20) { info_ = {.uri = "witness:", .size_bytes = memory_.size()}; }
  io::Task<Status> close() override { co_return Status(); }

  std::atomic<std::thread::id> thread;
  std::atomic<uint32_t> requests{0};
  bool hold = false;
  io::IoRequest* held = nullptr;

 protected:
  void do_submit(io::IoRequest& request) override {
    thread = std::this_thread::get_id();
    ++requests;
    if (std::exchange(hold, false)) {
      held = &request;
      return;
    }
    Bytes range = Bytes(memory_).subspan(request.offset_bytes, request.length_bytes);
    if (request.op == io::IoOp::kRead) io::iov_scatter(request.iov, request.iov_count, 0, range);
    if (request.op == io::IoOp::kWrite) io::iov_gather(request.iov, request.iov_count, 0, range);
    request.done(&request, {});
  }

 private:
  std::vector<std::byte> memory_;
};

// A device on each of several loops: the test's own, and those of runtimes with their threads.
class LoopsTest : public ::testing::Test {
 protected:
  LoopsTest() {
    for (size_t i = 1; i < kLoops; ++i) {
      others.push_back(std::move(io::Runtime::create(true)).value());
    }
  }

  std::vector<io::Runtime*> borrowed() const {
    std::vector<io::Runtime*> all;
    all.reserve(others.size());
    for (const auto& one : others) all.push_back(one.get());
    return all;
  }
  std::thread::id thread_of(size_t place) {
    if (place == 0) return std::this_thread::get_id();
    auto ask = []() -> io::Task<std::thread::id> { co_return std::this_thread::get_id(); };
    return others[place - 1]->call(ask);
  }
  static io::Task<void> wait_ms(io::Loop& loop, uint64_t ms) {
    co_await loop.sleep_for(ms * 1'000'000);
  }

  World world;
  Witness devices[kLoops];
  std::vector<std::unique_ptr<io::Runtime>> others;
};

}  // namespace bb::test
