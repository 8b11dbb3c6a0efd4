// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/context.h"
#include "io/device.h"
#include "io/ublk/control.h"
#include "io/ublk/queue.h"

namespace bb::io::ublk {

struct AttachOptions {
  std::optional<uint32_t> device_id;  // the N of /dev/ublkbN; without: the system chooses
  // What a restarted server must say to take back the block device that its predecessor left: by
  // default the device's URI.
  std::string identity;
  uint32_t queue_depth = 128;
  uint32_t io_max_bytes = 512u << 10;  // of one request; times queue_depth bounds the memory
};

// A device attached to this machine's kernel as /dev/ublkbN. It has user recovery: when the process
// dies, I/O of whoever has the block device open waits, and who attaches again with the same number
// and identity takes it over; what the dead process had not answered is done again, which is safe
// since a block device orders nothing that overlaps and is in flight.
class Attachment {
 public:
  // NOT_SUPPORTED (no driver, no io_uring), PERMISSION_DENIED, BUSY (the number is served),
  // ALREADY_EXISTS (it is not ours to take over), INVALID_ARGUMENT. `device` outlives it.
  static Task<Result<std::unique_ptr<Attachment>>> start(Context context, Device* device,
                                                         AttachOptions options);
  ~Attachment();  // after stop() succeeded or leave()

  const std::string& path() const { return path_; }  // "/dev/ublkb0"
  bool recovered() const { return recovered_; }      // took over what was there
  const QueueStats& stats() const { return queue_->stats(); }

  // Waits for what is in flight and removes the block device. BUSY, and nothing has changed, while
  // the block device is mounted or open exclusively.
  Task<Status> stop();
  // For a process that is about to end: answers nothing more and leaves the block device, whose I/O
  // waits for the next server.
  Task<void> leave();

 private:
  Attachment(Context context, Device& device, AttachOptions options);
  Task<Status> attach();
  Task<Status> create(Parameters parameters);
  Task<Status> recover(DeviceRecord found, Parameters parameters);
  Task<Result<DeviceRecord>> settled(uint32_t device_id);
  Task<Status> serve(uint32_t device_id, Queue::Shape shape);
  Task<void> undo(uint32_t device_id);
  Task<Status> in_use();

  Context context_;
  Device& device_;
  AttachOptions options_;
  std::string path_;
  uint32_t device_id_ = kAnyDevice;
  bool recovered_ = false;
  std::unique_ptr<Control> control_;
  std::unique_ptr<Queue> queue_;
};

}  // namespace bb::io::ublk
