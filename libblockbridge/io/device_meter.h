// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/device.h"
#include "io/flight_recorder.h"
#include "io/io_stats.h"
#include "io/loop.h"

namespace bb::io {

inline IoKind io_kind_of(IoOp op) {
  if (op == IoOp::kRead) return IoKind::kRead;
  return op == IoOp::kWrite ? IoKind::kWrite : IoKind::kOther;
}

// Counts and times what passes through a device, whatever kind it is: Device::submit() hands each
// request through begin(), which puts itself in front of the request's `done`. Nothing is allocated
// for a request that is neither slow nor failed.
//
// Times are the loop's batch_ns(): no clock is read for a request. So they are as exact as one turn
// of the loop is short, and what a device does within submit() (mem:, null:) counts as 0.
class DeviceMeter {
 public:
  static constexpr size_t kRing = 32;  // of the recorder: there may be a thousand devices

  DeviceMeter(const Device& device, const Loop& loop) : device_(device), loop_(loop) {}

  void begin(IoRequest& request) {
    request.measured = {.meter = this, .done = request.done, .submitted_ns = loop_.batch_ns()};
    request.done = on_done;
    ++in_flight_;
  }

  IoStats stats() const;
  const FlightRecorder& recorder() const { return recorder_; }
  uint64_t in_flight() const { return in_flight_; }

 private:
  static void on_done(IoRequest* request, Status status);
  void end_unlike(const IoRequest& request, const Status& status, uint64_t total_ns);
  void record(const IoRequest& request, const Status& status, uint64_t total_ns);

  struct Alike {  // requests that ended one after the other, after the same time, none slow
    IoKind kind = IoKind::kRead;
    uint64_t count = 0;
    uint64_t bytes = 0;
    uint64_t total_ns = 0;
    void count_in(IoStats& stats) const;
  };
  const Device& device_;
  const Loop& loop_;
  uint64_t in_flight_ = 0;
  Alike alike_;
  IoStats stats_;  // without what is alike
  FlightRecorder recorder_{0, kRing};
};

}  // namespace bb::io
