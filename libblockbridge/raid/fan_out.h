// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <coroutine>
#include <memory>
#include <span>
#include <vector>

#include "io/device.h"
#include "raid/medium_error.h"
#include "raid/member.h"

namespace bb::raid {

// I/Os of several members at once: one coroutine waits, or a function is called; nothing is
// allocated for a few.
class FanOut {
 public:
  struct Leg : io::IoRequest {
    FanOut* fan = nullptr;
    Member* member = nullptr;
    Status status;
  };
  struct Io {
    io::IoOp op = io::IoOp::kWrite;
    uint64_t offset_bytes = 0;  // on the member's device
    uint64_t length_bytes = 0;
    const iovec* iov = nullptr;
    uint32_t iov_count = 0;
    bool fua = false;
    bool may_discard = false;
  };
  explicit FanOut(ArrayCore& core) : core_(core) {}
  FanOut(const FanOut&) = delete;
  ~FanOut();

  void add(Member& member, const Io& io);
  // The same as `like`, at another place.
  void add_like(Member& member, const io::IoRequest& like, uint64_t offset_bytes);
  uint32_t count() const { return count_; }
  Leg& leg(uint32_t i) { return i < kFew ? few()[i] : *more_[i - kFew]; }

  bool await_ready() const { return count_ == 0; }
  bool await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}

  // Instead of waiting: `ended` is called once, possibly before this returns.
  using Ended = void (*)(FanOut* fan);
  void start(Ended ended);
  // To be filled again, once all legs have ended.
  void clear();

 private:
  static void on_done(io::IoRequest* request, Status status);
  bool submit_all();  // true: all have ended within
  static constexpr uint32_t kFew = 8;
  Leg* few() { return reinterpret_cast<Leg*>(memory_); }

  ArrayCore& core_;
  alignas(Leg) std::byte memory_[kFew * sizeof(Leg)];  // of those that are used
  std::vector<std::unique_ptr<Leg>> more_;
  uint32_t count_ = 0;
  uint32_t pending_ = 0;
  std::coroutine_handle<> waiter_;
  Ended ended_ = nullptr;
};

// What a range in many chunks is on its members: one I/O where bytes follow each other.
class MemberRuns {
 public:
  struct Run {
    Member* member = nullptr;
    uint64_t place_bytes = 0;  // in its data
    uint64_t length_bytes = 0;
    std::vector<iovec> memory;
  };
  void add(Member& member, uint64_t place_bytes, uint64_t length_bytes,
           std::span<const iovec> memory);
  // A leg of `like`'s kind for each; the lists of memory stay here.
  void add_to(FanOut& fan, const io::IoRequest& like, uint64_t data_offset_bytes) const;

 private:
  std::vector<Run> runs_;
};

}  // namespace bb::raid
