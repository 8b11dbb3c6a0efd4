// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "io/device.h"
#include "io/device_paths.h"
#include "io/device_reservations.h"
#include "io/nvme/discover.h"
#include "io/nvme/nvme_options.h"
#include "io/nvme/nvme_path.h"
#include "io/nvme/nvme_request.h"
#include "io/nvme/unsettled.h"
#include "io/sync.h"

namespace bb::io::nvme {

struct NvmeStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;         // flush, discard, write zeroes
  uint64_t failures = 0;       // of those, how many failed
  uint64_t retries = 0;        // commands sent again after damage on the way
  uint64_t moves = 0;          // commands sent again by another path
  uint64_t digest_errors = 0;  // damaged headers or data, seen here or reported by the target
  uint64_t reconnects = 0;     // of any path
  uint64_t connect_failures = 0;
  Status last_error;  // why the last connection ended or could not be made
};

// A namespace of an NVMe/TCP target, by one or several paths. It is kReady while one of them is
// usable. docs/decisions/010 says which commands go again when a path is lost with them; in short:
// a write without an answer waits until the lost association can no longer execute it. When all
// paths are lost, everything in flight fails with UNAVAILABLE (or, with wait=, waits so long), and
// the device comes back with a raised incarnation.
class NvmeDevice final : public Device,
                         public DevicePaths,
                         public DeviceReservations,
                         private NvmePath::Owner {
 public:
  NvmeDevice(Context context, NvmeOptions options, std::string uri);
  ~NvmeDevice() override;

  Task<Status> open();  // once, before all else; close() also after an error
  // One more address of the same subsystem. False: known already, or there are kPathsMax.
  bool add_path(const std::string& address);
  Task<Status> close() override;
  const NvmeStats& stats() const { return stats_; }
  const std::vector<std::unique_ptr<NvmePath>>& nvme_paths() const { return paths_; }
  size_t unsettled() const { return unsettled_.size() + held_; }
  std::vector<PathInfo> paths() const override;
  std::vector<EventCount> event_counts() const override;

  Task<Status> reserve(RegisterCommand command) override;
  Task<Status> reserve(AcquireCommand command) override;
  Task<Status> reserve(ReleaseCommand command) override;
  Task<Result<ReservationReport>> reservation() override;

 protected:
  void do_submit(IoRequest& request) override;

 private:
  struct Tick : Timer {
    NvmeDevice* device = nullptr;
  };

  // Paths (nvme_device.cc).
  Task<Status> on_path_connected(NvmePath* path) override;
  void on_path_live(NvmePath& path) override;
  void on_path_lost(NvmePath& path) override;
  void on_path_failed(NvmePath& path) override;
  void on_path_answered(NvmePath& path) override;
  void on_path_changed(NvmePath& path) override;
  Status on_namespace_changed(NvmePath& path) override;
  Status identify(const NvmePath& path) const;
  Status accept(const NvmePath& path);
  void take_shape(const NvmePath& path);
  Task<Status> find_paths();
  void on_discovered(const std::vector<DiscoveryEntry>& entries);
  Task<void> stop_paths();
  bool usable() const;
  bool single() const { return paths_.size() == 1 && watch_ == nullptr; }
  bool any_live() const;
  uint64_t patience_ns() const;
  std::string why_unusable() const;
  void note_usable();
  Task<bool> goes_on(const NvmePath* besides, uint64_t since_ns);
  void settle(const NvmePath& path);

  // Requests (nvme_io.cc).
  void start(IoRequest& request);
  void resume();
  bool issue(NvmeRequest& request, uint64_t now_ns);
  void move(NvmeRequest& request);
  void hold(NvmeRequest& request);
  void on_done(NvmeRequest& request, Status lost);
  void go_elsewhere(NvmeRequest& request, const Status& lost);
  void path_refused(NvmeRequest& request);
  void fail_answered(NvmeRequest& request);
  void finish(NvmeRequest& request, Status status);
  void fail(NvmeRequest& request, Code code, std::string_view why);
  void refuse(IoRequest& request, Code code, std::string_view why);
  void count(const IoRequest& request, const Status& status);
  void fail_waiting();
  void limit_waiting(uint64_t patience_ns);
  void release_barred();
  void on_tick();
  void check_deadline(NvmeRequest& request, uint64_t now_ns);
  Status describe(const IoRequest& request, Code code, std::string_view why) const;

  // Other commands (nvme_reserve.cc).
  Task<Status> run(std::string_view what, Sqe sqe, Bytes data, bool to_target);
  Task<Status> run_by_a_path(SyncCommand* command);

  Context context_;
  NvmeOptions options_;
  std::vector<std::unique_ptr<NvmePath>> paths_;
  std::vector<PathLoad*> loads_;
  PathChooser chooser_;
  bool opened_ = false;
  bool known_ = false;  // what the namespace is
  bool stopping_ = false;
  bool served_ = false;    // some path has been live
  uint32_t proving_ = 0;   // who waits for an answer of any path
  std::string subsystem_;  // serial and model
  Uuid uuid_;
  NamespaceShape shape_;
  std::vector<std::byte> zeroes_;  // for targets without Write Zeroes
  std::deque<NvmeRequest> requests_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> waiting_;  // requests to be issued (again), in order
  uint32_t held_ = 0;
  Unsettled unsettled_;
  RequestList parked_;  // no room, or no path
  RequestList barred_;  // they overlap what is unsettled
  Tick tick_;
  Gate gate_;
  Event first_;  // a path is live, or one has failed
  Event proof_;  // a path has answered, or is lost
  NvmeStats stats_;
  std::unique_ptr<DiscoveryWatch> watch_;  // nvme-tcp+discover: where addresses come from
};

// nvme-tcp:, and nvme-tcp+discover://host:8009/NQN, which asks the discovery service for all
// addresses of the subsystem, and goes on doing so.
Task<Result<std::unique_ptr<Device>>> open_nvme_device(Context context, Uri uri, std::string text);
Task<Result<std::unique_ptr<Device>>> open_discovered(Context context, Uri uri, std::string text);

}  // namespace bb::io::nvme
