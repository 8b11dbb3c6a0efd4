// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "io/device.h"
#include "io/sync.h"

namespace bb::backplane {

struct DeviceCounters {
  uint64_t reads = 0, writes = 0;
  uint64_t read_errors = 0, write_errors = 0;  // flushes count as writes
  Status last_error;
};

// A stretch of another device, seen as a device of its own: what of a drive its owner sees. Counts
// I/O and errors on the way. The inner device is borrowed and outlives this one.
class OffsetDevice final : public io::Device, private io::DeviceWatcher {
 public:
  OffsetDevice(io::Loop& loop, io::Device& inner, uint64_t offset_bytes, uint64_t size_bytes,
               uint32_t block_size_bytes);
  ~OffsetDevice() override;

  const DeviceCounters& counters() const { return counters_; }

  io::Task<Status> close() override;  // leaves the inner device open

 protected:
  void do_submit(io::IoRequest& request) override;

 private:
  struct Child final : io::IoRequest {
    OffsetDevice* owner = nullptr;
    io::IoRequest* parent = nullptr;
  };
  static void on_done(io::IoRequest* request, Status status);
  void on_device_state(io::Device& device, io::DeviceState state) override;

  io::Device& inner_;
  uint64_t offset_bytes_;
  io::Gate gate_;
  DeviceCounters counters_;
  std::vector<std::unique_ptr<Child>> free_;  // as many as were ever in flight at once
};

}  // namespace bb::backplane
