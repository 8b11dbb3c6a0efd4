// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <deque>
#include <span>
#include <vector>

#include "io/device.h"

namespace bb::raid {

// I/Os of several members that go at once: `co_await batch` ends when all have, whatever each ended
// with. Pieces longer than a member takes in one request are several legs.
class IoBatch {
 public:
  struct Leg : io::IoRequest {
    IoBatch* batch = nullptr;
    io::Device* device = nullptr;
    uint32_t slot = 0;
    std::vector<iovec> pieces;
    Status status;
  };

  IoBatch() = default;
  IoBatch(const IoBatch&) = delete;

  // The memory stays as it is until the batch has ended.
  void read(uint32_t slot, io::Device* device, uint64_t offset_bytes, Bytes into);
  void write(uint32_t slot, io::Device* device, uint64_t offset_bytes, ConstBytes from, bool fua);
  void writev(uint32_t slot, io::Device* device, uint64_t offset_bytes, std::span<const iovec> from,
              bool fua);
  void flush(uint32_t slot, io::Device* device);

  std::deque<Leg>& legs() { return legs_; }
  bool await_ready() const { return legs_.empty(); }
  bool await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}

 private:
  Leg& add(uint32_t slot, io::Device* device, io::IoOp op, uint64_t offset_bytes);
  static void on_done(io::IoRequest* request, Status status);

  std::deque<Leg> legs_;  // they do not move
  size_t pending_ = 0;
  std::coroutine_handle<> waiter_;
};

}  // namespace bb::raid
