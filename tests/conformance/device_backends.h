// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "io/device.h"
#include "support/world.h"

namespace bb::test {

inline constexpr uint64_t kBackendBytes = 8u << 20;

// What a backend needs besides the device: a file, a loop device, a target. Goes away with it.
class BackendHost {
 public:
  virtual ~BackendHost() = default;
  virtual std::string uri() const = 0;
  virtual void stop(World&) {}
};

// One way to get a device of kBackendBytes. A new kind of device is one row in device_backends().
struct Backend {
  std::string name;
  // Null with `why_not` set: this machine cannot.
  std::function<std::unique_ptr<BackendHost>(World& world, std::string& why_not)> start;
  bool keeps_data = true;      // null: does not
  bool can_read_only = false;  // takes ?read_only=1
};
std::vector<Backend> device_backends();
inline void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

}  // namespace bb::test
