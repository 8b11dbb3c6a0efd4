// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/side_ring.h"
#include "io/task.h"
#include "io/ublk/abi.h"

namespace bb::io::ublk {

std::string block_path(uint32_t device_id);  // "/dev/ublkb3"
std::string char_path(uint32_t device_id);   // "/dev/ublkc3": where its server sits

// The driver's control commands, through /dev/ublk-control. Some wait in the kernel, for I/O that
// this same loop serves: they wait on a thread of the kernel's, not on ours.
class Control {
 public:
  // NOT_SUPPORTED (no driver, no io_uring), PERMISSION_DENIED.
  static Result<std::unique_ptr<Control>> open(Reactor& reactor);
  ~Control();

  Task<Result<DeviceRecord>> add(DeviceRecord wanted);  // as the driver made it
  Task<Result<DeviceRecord>> info(uint32_t device_id);  // NOT_FOUND
  Task<Status> set_parameters(uint32_t device_id, Parameters parameters);
  Task<Result<Parameters>> parameters(uint32_t device_id);
  // Both return once the fetches of every tag have reached the driver; the first also waits while
  // the kernel looks for partitions.
  Task<Status> start(uint32_t device_id);
  Task<Status> end_recovery(uint32_t device_id);
  Task<Status> start_recovery(uint32_t device_id);
  // Waits for requests in flight; later ones, and what waits to be written, fail. The fetches end.
  Task<Status> stop(uint32_t device_id);
  Task<Status> remove(uint32_t device_id);  // waits until nobody has its character device open

 private:
  struct Run;
  Control(Reactor& reactor, int fd, std::unique_ptr<SideRing> ring)
      : reactor_(reactor), fd_(fd), ring_(std::move(ring)) {}
  Run run(ControlOp op, ControlCommand command);

  Reactor& reactor_;
  int fd_;
  std::unique_ptr<SideRing> ring_;
};

}  // namespace bb::io::ublk
