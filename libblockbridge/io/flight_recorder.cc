// SPDX-License-Identifier: Apache-2.0
#include "io/flight_recorder.h"

#include <algorithm>

namespace bb::io {
namespace {

void bound(std::string& text) {
  if (text.size() > FlightRecorder::kTextMax) text.resize(FlightRecorder::kTextMax);
}

}  // namespace

void FlightRecorder::add_to(Ring& ring, FlightRecord record) {
  size_t at = ring.seen++ % ring_;
  if (at == ring.records.size()) {
    ring.records.push_back(std::move(record));
  } else {
    ring.records[at] = std::move(record);
  }
}

std::vector<FlightRecord> FlightRecorder::newest_first(const Ring& ring) const {
  std::vector<FlightRecord> out;
  out.reserve(ring.records.size());
  for (size_t i = 1; i <= ring.records.size(); ++i) {
    out.push_back(ring.records[(ring.seen - i) % ring_]);
  }
  return out;
}

void FlightRecorder::add(FlightRecord record) {
  bound(record.object);
  bound(record.status);
  bound(record.host);
  if (record.failed) return add_to(failed_, std::move(record));
  if (!fixed_) {
    bar_ns_ += bar_ns_ / 4;
    lower_at_ns_ = record.ended_ns + kLowerEveryNs;
  }
  add_to(slow_, std::move(record));
}

void FlightRecorder::lower(uint64_t now_ns) {
  if (fixed_) {
    lower_at_ns_ = UINT64_MAX;
    return;
  }
  // After a quiet hour as low as after as many seconds with a command each.
  uint64_t steps = lower_at_ns_ == 0 ? 0 : 1 + (now_ns - lower_at_ns_) / kLowerEveryNs;
  for (; steps > 0 && bar_ns_ > kFloorNs; --steps) {
    bar_ns_ = std::max(kFloorNs, bar_ns_ - bar_ns_ / 8);
  }
  lower_at_ns_ = now_ns + kLowerEveryNs;
}

}  // namespace bb::io
