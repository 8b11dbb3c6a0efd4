// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/uri.h"
#include "io/context.h"
#include "io/device.h"
#include "io/nvme/cut_address.h"
#include "io/nvme/local_open.h"
#include "io/side_ring.h"
#include "io/sync.h"

namespace bb::io::nvme {

struct LocalStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;  // flush, discard, write zeroes
  uint64_t failures = 0;
  uint64_t retries = 0;  // commands that a reset of the controller had cut off, sent again
};

// A namespace of a drive of this machine, by NVMe passthrough on its character device: commands go
// to the drive as we form them, beside the block layer. A command that a reset of the controller
// cut off is sent again within its deadline: the drive will never do the first one, and what
// overlaps in flight has no order. When the drive is gone the device is kUnavailable and stays so.
class LocalDevice final : public Device {
 public:
  LocalDevice(Context context, LocalOptions options, OpenedNamespace opened,
              std::unique_ptr<SideRing> ring, std::string uri);
  ~LocalDevice() override;

  Task<Status> close() override;
  // Whether there was memory for what commands name beside a request's own.
  bool has_memory() const { return ranges_.data() != nullptr && zeroes_.data() != nullptr; }
  const LocalStats& stats() const { return stats_; }
  std::vector<EventCount> event_counts() const override { return {{"retries", stats_.retries}}; }

 protected:
  void do_submit(IoRequest& request) override;

 private:
  struct Slot final : SideRing::Op {
    LocalDevice* device = nullptr;
    IoRequest* request = nullptr;
    LocalStep step;
    uint64_t done_bytes = 0;
    uint64_t deadline_ns = 0;
    uint32_t retries = 0;
    DistinctMemory bounce;  // one piece of memory, where the caller's cannot be named
    Bytes range;            // for a discard
  };

  void start(IoRequest& request);
  LocalRequest rest_of(const Slot& slot) const;
  bool needs_bounce(const IoRequest& request) const;
  void issue(Slot& slot);
  void on_done(Slot& slot, int32_t result);
  Status outcome_of(const Slot& slot, int32_t result) const;
  void finish(Slot& slot, Status status);
  void count(const IoRequest& request, const Status& status);

  Context context_;
  LocalOptions options_;
  OpenedNamespace opened_;
  std::unique_ptr<SideRing> ring_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  // Requests that wait for a slot.
  boost::intrusive::list<IoRequest, boost::intrusive::constant_time_size<false>> parked_;
  LowMemory low_;
  DistinctMemory ranges_;
  DistinctMemory zeroes_;  // for drives without Write Zeroes
  Gate gate_;
  LocalStats stats_;
};

// nvme:/dev/ng0n1[?queue_depth=128&io_timeout=30s&read_only=1&lock=1]
Task<Result<std::unique_ptr<Device>>> open_local_device(Context context, Uri uri, std::string text);

}  // namespace bb::io::nvme
