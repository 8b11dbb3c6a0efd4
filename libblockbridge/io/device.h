// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <boost/intrusive/list.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "io/task.h"

namespace bb::io {

class Device;
class DeviceMeter;
class Loop;

enum class IoOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };
std::string_view io_op_name(IoOp op);
constexpr bool changes_data(IoOp op) {
  return op == IoOp::kWrite || op == IoOp::kWriteZeroes || op == IoOp::kDiscard;
}

// One I/O. A leaf: it lives in whoever waits for it, from submit() until `done` is called, and the
// memory its iovecs name lives as long. `done` runs exactly once, on the device's loop, possibly
// before submit() returns; after it the device touches the request no more.
struct IoRequest : boost::intrusive::list_base_hook<> {
  using Done = void (*)(IoRequest* request, Status status);

  IoOp op = IoOp::kRead;
  bool fua = false;          // write, write_zeroes: durable before done
  bool may_discard = false;  // write_zeroes: may free the range if it then reads as zeroes
  bool fast_only = false;    // write_zeroes: NOT_SUPPORTED rather than as slow as writing them
  bool may_lend = false;     // read, of a device that lends: no iovecs, see `lent`
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;  // read, write: equals the sum of the iovecs
  const iovec* iov = nullptr;
  uint32_t iov_count = 0;
  Done done = nullptr;
  // What a read that may_lend gave: the device's own memory, which stays as it is until
  // give_back(). Writes to it wait for that, so it follows soon, whatever others do.
  ConstBytes lent;

  // Whoever measures the device keeps its own here, from submit() to `done`.
  struct Measured {
    DeviceMeter* meter = nullptr;
    Done done = nullptr;
    uint64_t submitted_ns = 0;
  };
  Measured measured;

  // The device that serves the request keeps its own state here, so that no I/O allocates.
  alignas(16) std::byte scratch[128];
};

struct DeviceInfo {
  std::string uri;                       // as opened, without secrets
  uint64_t size_bytes = 0;               // multiple of block_size_bytes
  uint32_t block_size_bytes = 512;       // smallest addressable unit: 512 or 4096
  uint32_t physical_block_bytes = 4096;  // a write of this size is not torn into read-modify-write
  uint32_t transfer_max_bytes = 1u << 20;  // largest read or write in one request
  bool read_only = false;
  bool volatile_cache = false;  // a completed write may be lost at power loss until flushed
  bool discard = false;         // kDiscard frees space (contents undefined after)
  bool fast_zero = false;       // kWriteZeroes can be faster than writing as much
};

// A run of bytes that are alike, as far as a device knows.
struct Extent {
  uint64_t length_bytes = 0;
  bool hole = false;  // takes no space
  bool zero = false;  // reads as zeroes

  friend bool operator==(const Extent&, const Extent&) = default;
};
// Adds an extent behind the others, or makes the last one longer when it is of the same kind.
void append_extent(std::vector<Extent>& list, Extent extent);

enum class DeviceState : uint8_t { kReady, kUnavailable, kClosed };

// Learns of a device's coming and going. Lives in its owner; unlinked by unwatch().
struct DeviceWatcher : boost::intrusive::list_base_hook<> {
  virtual void on_device_state(Device& device, DeviceState state) = 0;

 protected:
  ~DeviceWatcher() = default;
};

// Something a device counts besides its I/O: "reconnects", "digest_errors". The name is a literal.
struct EventCount {
  std::string_view name;
  uint64_t count = 0;
};

// The library's block interface: a file, a drive, an array, a disk. Belongs to one loop and is used
// only there. Requests may complete in any order; overlapping ones in flight have no order.
// A write that fails may have happened in full, in part, or not at all.
class Device {
 public:
  Device();
  virtual ~Device();

  const DeviceInfo& info() const { return info_; }
  DeviceState state() const { return state_; }
  // Raised whenever writes that completed but were not flushed may have been lost (a reconnect to a
  // target that may have restarted). Constant while the device keeps its word.
  uint64_t incarnation() const { return incarnation_; }

  void watch(DeviceWatcher& watcher) { watchers_.push_back(watcher); }
  void unwatch(DeviceWatcher& watcher) { watchers_.erase(watchers_.iterator_to(watcher)); }

  // Errors arrive in `done` only: INVALID_ARGUMENT (range, alignment, size), PERMISSION_DENIED
  // (read only), BAD_STATE (closed), and whatever the device itself meets.
  void submit(IoRequest& request);

  // Does the device show what it holds instead of copying it? Constant.
  virtual bool lends() const { return false; }
  // Ends a read that may_lend and succeeded.
  void give_back(IoRequest& request) { do_give_back(request); }

  // What the range consists of, from its front: at least one extent, at most `limit`, together no
  // longer than the range. A device that does not know says data. A snapshot: writes in flight may
  // or may not be seen. Errors as for submit().
  Task<Result<std::vector<Extent>>> extents(uint64_t offset_bytes, uint64_t length_bytes,
                                            uint32_t limit);

  // From now on each request is counted and timed by the clock of `loop`, on which the device
  // lives. Measured is every device that was opened by a URI, every array and every CalledDevice.
  void measure(const Loop& loop);
  const DeviceMeter* meter() const { return meter_.get(); }  // null: not measured
  virtual std::vector<EventCount> event_counts() const { return {}; }

  // Waits for requests in flight, then lets go of the resources. Once, before destruction.
  virtual Task<Status> close() = 0;

  // co_await device.read(offset, bytes): leaf awaitables over submit().
  struct Io;
  Io read(uint64_t offset_bytes, Bytes into);
  Io write(uint64_t offset_bytes, ConstBytes from, bool fua = false);
  Io readv(uint64_t offset_bytes, const iovec* iov, uint32_t iov_count, uint64_t length_bytes);
  Io writev(uint64_t offset_bytes, const iovec* iov, uint32_t iov_count, uint64_t length_bytes,
            bool fua = false);
  Io flush();
  Io discard(uint64_t offset_bytes, uint64_t length_bytes);
  Io write_zeroes(uint64_t offset_bytes, uint64_t length_bytes, bool fua = false);

 protected:
  // The request is within the device, aligned, and allowed.
  virtual void do_submit(IoRequest& request) = 0;
  virtual void do_give_back(IoRequest& request);
  // The range is within the device, aligned and not empty; what is returned is trimmed to it.
  virtual Task<Result<std::vector<Extent>>> do_extents(uint64_t offset_bytes, uint64_t length_bytes,
                                                       uint32_t limit);

  void set_state(DeviceState state);  // tells the watchers when it changes
  void raise_incarnation() { ++incarnation_; }
  DeviceInfo info_;

 private:
  Status check(const IoRequest& request) const;
  std::string check_range(uint64_t offset_bytes, uint64_t length_bytes) const;  // "": it is good

  DeviceState state_ = DeviceState::kReady;
  uint64_t incarnation_ = 1;
  using Watchers =
      boost::intrusive::list<DeviceWatcher, boost::intrusive::constant_time_size<false>>;
  Watchers watchers_;
  std::unique_ptr<DeviceMeter> meter_;
};

struct Device::Io : IoRequest {
  Device& device;
  iovec single{};  // read() and write() need just one
  Status status;
  std::coroutine_handle<> waiter;
  bool completed = false;

  struct Range {
    uint64_t offset_bytes = 0;
    uint64_t length_bytes = 0;
  };
  Io(Device& to, IoOp what, Range where, bool durable = false) : device(to) {
    op = what;
    fua = durable;
    offset_bytes = where.offset_bytes;
    length_bytes = where.length_bytes;
  }
  Io(Device& to, IoOp what, Range where, iovec one, bool durable) : Io(to, what, where, durable) {
    single = one;
    iov_count = 1;
  }
  Io(Device& to, IoOp what, Range where, const iovec* many, uint32_t count, bool durable)
      : Io(to, what, where, durable) {
    iov = many;
    iov_count = count;
  }
  Io(const Io&) = delete;
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller);
  Status await_resume() { return std::move(status); }
};

uint64_t iov_length_bytes(const iovec* iov, uint32_t iov_count);
void iov_fill_zero(const iovec* iov, uint32_t iov_count);
// Copies between a run of iovecs, from `skip_bytes` on, and one buffer.
void iov_gather(const iovec* iov, uint32_t iov_count, uint64_t skip_bytes, Bytes into);
void iov_scatter(const iovec* iov, uint32_t iov_count, uint64_t skip_bytes, ConstBytes from);

}  // namespace bb::io
