// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <coroutine>
#include <memory>
#include <span>
#include <vector>

#include "io/device.h"
#include "raid/medium_error.h"

namespace bb::raid {

// I/Os of several members that go at once: `co_await batch` ends when all have, whatever each ended
// with. Pieces longer than a member takes in one request are several legs. A few legs, as most
// batches have, lie within the batch itself.
class IoBatch {
 public:
  struct Leg : io::IoRequest {
    IoBatch* batch = nullptr;
    io::Device* device = nullptr;
    uint32_t slot = 0;
    iovec one{};
    std::unique_ptr<iovec[]> many;  // null: it is `one`, or the caller's
    Status status;
  };

  IoBatch() = default;
  IoBatch(const IoBatch&) = delete;
  ~IoBatch();

  // The memory stays as it is until the batch has ended, and so do the iovecs.
  void read(uint32_t slot, io::Device* device, uint64_t offset_bytes, Bytes into);
  void write(uint32_t slot, io::Device* device, uint64_t offset_bytes, ConstBytes from, bool fua);
  void writev(uint32_t slot, io::Device* device, uint64_t offset_bytes, std::span<const iovec> from,
              bool fua);
  void flush(uint32_t slot, io::Device* device);

  size_t size() const { return count_; }
  const Leg& leg(size_t i) const { return i < kFew ? few()[i] : *more_[i - kFew]; }
  Leg& leg(size_t i) { return i < kFew ? few()[i] : *more_[i - kFew]; }

  bool await_ready() const { return count_ == 0; }
  bool await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}

 private:
  static constexpr size_t kFew = 6;
  Leg* few() { return reinterpret_cast<Leg*>(memory_); }
  const Leg* few() const { return reinterpret_cast<const Leg*>(memory_); }
  Leg& add(uint32_t slot, io::Device* device, io::IoOp op, uint64_t offset_bytes);
  void split(uint32_t slot, io::Device* device, uint64_t offset_bytes, std::span<const iovec> from,
             bool fua);
  static void on_done(io::IoRequest* request, Status status);

  alignas(Leg) std::byte memory_[kFew * sizeof(Leg)];
  std::vector<std::unique_ptr<Leg>> more_;  // they do not move
  size_t count_ = 0;
  size_t pending_ = 0;
  std::coroutine_handle<> waiter_;
};

}  // namespace bb::raid
