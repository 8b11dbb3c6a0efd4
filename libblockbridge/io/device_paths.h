// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bb::io {

// One of several ways to a device.
struct PathInfo {
  std::string address;
  std::string state;   // connecting, live, lost, closed
  std::string access;  // ANA state of a live one
  uint32_t in_flight = 0;
  uint64_t latency_ns = 0;  // smoothed; 0: not known
  uint64_t connects = 0;
  uint64_t failures = 0;  // to connect
  std::string detail;     // why it is not live
};

// What a Device is besides, when there are paths to tell apart.
class DevicePaths {
 public:
  virtual std::vector<PathInfo> paths() const = 0;

 protected:
  ~DevicePaths() = default;
};

}  // namespace bb::io
