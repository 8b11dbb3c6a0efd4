// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/context.h"
#include "io/device.h"
#include "io/sync.h"

namespace bb::io {

// What an application's device does. Each may block; all are called on threads of the device, never
// on the loop's: with one thread one after the other. Called for what DeviceInfo says the device
// can: write unless `read_only`, discard where `discard`, write_zeroes where `fast_zero` (written
// otherwise); flush always.
class DeviceFunctions {
 public:
  virtual ~DeviceFunctions() = default;
  virtual Status read(uint64_t offset_bytes, Bytes into) = 0;
  virtual Status write(uint64_t offset_bytes, ConstBytes from) = 0;
  virtual Status flush() = 0;
  virtual Status discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  virtual Status write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) = 0;
};

// A device whose work an application's functions do. Requests wait in a line until a thread is
// free; a write that is to be durable (FUA) is followed by a flush on the same thread.
class CalledDevice final : public Device {
 public:
  static constexpr uint32_t kThreadsMax = 64;

  // INVALID_ARGUMENT: size, block size, number of threads. `info` says what the functions can.
  static Result<std::unique_ptr<Device>> create(Context context, DeviceInfo info, uint32_t threads,
                                                std::unique_ptr<DeviceFunctions> functions);
  ~CalledDevice() override;

  // Waits for what is being called, then for the threads; the functions are destroyed after it.
  Task<Status> close() override;

 protected:
  void do_submit(IoRequest& request) override;

 private:
  struct Call;
  using Line = boost::intrusive::list<IoRequest>;

  CalledDevice(Context context, DeviceInfo info, std::unique_ptr<DeviceFunctions> functions);
  void work();
  Status run(const IoRequest& request);
  Status zero(const IoRequest& request);
  void join();

  Loop& loop_;
  std::unique_ptr<DeviceFunctions> functions_;
  Gate gate_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Line line_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace bb::io
