// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/uri.h"
#include "io/device.h"
#include "io/nvme/association.h"
#include "io/sync.h"

namespace bb::io::nvme {

struct NvmeOptions {
  AssociationOptions association;
  uint64_t io_timeout_ns = 0;
  uint64_t connect_timeout_ns = 0;
  uint64_t wait_ns = 0;
};
// nvme-tcp://host:4420/NQN?nsid=1&hostnqn=…&hostid=UUID&digest=on|header|data|off&queue_depth=128
// &queues=1&io_timeout=30s&connect_timeout=5s&keep_alive=5s&wait=0. `prng` makes a host id when
// none is given.
Result<NvmeOptions> parse_nvme_options(Uri uri, Prng& prng);

struct NvmeStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;         // flush, discard, write zeroes
  uint64_t failures = 0;       // of those, how many failed
  uint64_t retries = 0;        // commands sent again after damage on the way
  uint64_t digest_errors = 0;  // damaged headers or data, seen here or reported by the target
  uint64_t reconnects = 0;
  uint64_t connect_failures = 0;
  Status last_error;  // why the last connection ended or could not be made
};

// A namespace of an NVMe/TCP target. When the connection ends, everything in flight fails with
// UNAVAILABLE and the device is kUnavailable; it reconnects by itself, with back-off, raises its
// incarnation and is kReady again. New I/O meanwhile fails at once, or, with wait=, is kept so
// long. Commands damaged on the way (digests) are sent again: overlapping I/O in flight has no
// order, so doing one twice is not seen.
class NvmeDevice final : public Device, private Association::Owner {
 public:
  NvmeDevice(Context context, NvmeOptions options, std::string uri);
  ~NvmeDevice() override;

  Task<Status> open();  // once, before all else; close() also after an error
  Task<Status> close() override;
  const NvmeStats& stats() const { return stats_; }

 protected:
  void do_submit(IoRequest& request) override;

 private:
  struct Slot : HostCommand {
    NvmeDevice* device = nullptr;
    IoRequest* request = nullptr;
    uint32_t index = 0;
    uint32_t retries = 0;
    uint64_t moved_bytes = 0;  // write zeroes and discard go in several commands
    uint64_t step_bytes = 0;
    std::byte range[kDsmRangeBytes];
    iovec range_iov{};
  };
  // A request that waits for a slot or for the connection keeps its place in its own scratch.
  struct Parked {
    IoRequest* next = nullptr;
    uint64_t deadline_ns = 0;
  };
  static Parked& parked(IoRequest& request) { return *reinterpret_cast<Parked*>(request.scratch); }
  struct Tick : Timer {
    NvmeDevice* device = nullptr;
  };

  void on_association_broken(Association& association) override;
  Task<Status> connect();
  Status describe();
  Task<void> maintain();
  Task<bool> reconnect();
  void disconnected();

  void park(IoRequest& request);
  IoRequest* unpark();
  void fail_parked(uint64_t until_ns);
  void start_parked();
  void start(IoRequest& request);
  void issue(Slot& slot);
  void build(Slot& slot);
  void on_done(Slot& slot, Status lost);
  void finish(Slot& slot, Status status);
  void count(const IoRequest& request, const Status& status);
  void on_tick();
  Status unavailable(const IoRequest& request) const;

  Context context_;
  NvmeOptions options_;
  std::unique_ptr<Association> association_;
  bool usable_ = false;  // connected and described: commands may go
  bool stopping_ = false;
  bool can_zero_ = false;
  Uuid uuid_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  IoRequest* parked_first_ = nullptr;
  IoRequest* parked_last_ = nullptr;
  std::vector<std::byte> zeroes_;  // for targets without Write Zeroes
  iovec zeroes_iov_{};
  Tick tick_;
  Gate gate_;
  Event wake_;
  TaskGroup tasks_;
  NvmeStats stats_;
};

Task<Result<std::unique_ptr<Device>>> open_nvme_device(Context context, Uri uri, std::string text);

}  // namespace bb::io::nvme
