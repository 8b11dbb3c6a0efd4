// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bb::io {

// A command worth looking at afterwards.
struct FlightRecord {
  std::string_view op;  // "read"; a literal
  std::string object;   // the device's URI, or the export's name
  uint32_t nsid = 0;    // 0: it has none
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool failed = false;
  std::string status;       // "ok", or the error
  uint64_t ended_ns = 0;    // loop time
  uint64_t receive_ns = 0;  // stages, see IoStage; 0 where there is none
  uint64_t device_ns = 0;
  uint64_t send_ns = 0;
  uint64_t total_ns = 0;
  std::string host;  // who sent it; empty: we did
};

// The last commands that failed and the last that were slow, each kind in a ring of its own, so
// that a storm of errors leaves the slowness before it in sight.
//
// What is slow? With `slow_ns`: what took longer. Without, the bar finds itself: each slow command
// raises it by a quarter, each second without lowers it by an eighth, to 1 ms at the lowest. So the
// ring holds the worst of about one command a second, whatever speed is usual, and some minutes.
class FlightRecorder {
 public:
  static constexpr size_t kRing = 128;
  static constexpr uint64_t kFloorNs = 1'000'000;
  static constexpr uint64_t kLowerEveryNs = 1'000'000'000;
  static constexpr size_t kTextMax = 256;  // of object, status and host each

  // Some 300 bytes for each record it holds, 1 KiB at most.
  explicit FlightRecorder(uint64_t slow_ns = 0, size_t ring = kRing)
      : ring_(ring), fixed_(slow_ns > 0), bar_ns_(fixed_ ? slow_ns : kFloorNs) {}

  // Asked for each command, so cheap: is one that succeeded after so long worth an add()?
  bool slow(uint64_t ended_ns, uint64_t total_ns) {
    if (ended_ns >= lower_at_ns_) lower(ended_ns);
    return total_ns > bar_ns_;
  }
  void add(FlightRecord record);

  uint64_t bar_ns() const { return bar_ns_; }
  uint64_t seen_slow() const { return slow_.seen; }
  uint64_t seen_failed() const { return failed_.seen; }
  std::vector<FlightRecord> slow_records() const { return newest_first(slow_); }
  std::vector<FlightRecord> failed_records() const { return newest_first(failed_); }

 private:
  struct Ring {
    std::vector<FlightRecord> records;  // grows to ring_, then the oldest goes
    uint64_t seen = 0;
  };
  void add_to(Ring& ring, FlightRecord record);
  std::vector<FlightRecord> newest_first(const Ring& ring) const;
  void lower(uint64_t now_ns);

  size_t ring_;
  bool fixed_;
  uint64_t bar_ns_;
  uint64_t lower_at_ns_ = 0;
  Ring slow_;
  Ring failed_;
};

}  // namespace bb::io
