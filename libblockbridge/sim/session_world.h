// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/nvme/nvme_device.h"
#include "io/nvme/target.h"
#include "io/sync.h"
#include "sim/disk_model.h"
#include "sim/raw_host.h"
#include "sim/run_result.h"
#include "sim/sim_drive.h"
#include "sim/sim_net.h"
#include "sim/sim_port.h"

namespace bb::sim {

// One run of sessions: a drive behind the real target, the real initiator, a bad network between
// them, and a target node that dies and comes back. With several paths they lead to ports of one
// such node, or to nodes that share the drive.
class SessionWorld {
 public:
  explicit SessionWorld(const RunOptions& options);
  RunResult run();
  bool drained() const { return done_; }

 private:
  // A node of the target from start to crash.
  struct Server {
    Server(SimLoop& world, SimClock clock, Prng prng) : node(world, clock, prng) {}
    SimNode node;
    SimPorts ports;
    std::unique_ptr<SimCable> cable;
    std::unique_ptr<io::nvme::Target> target;
  };

  io::Task<void> main();
  void choose_layout();
  void add_raw_hosts();
  bool start_server(size_t index);
  bool start_servers();
  void crash_server(size_t index, bool power);
  void lose_power();
  std::string device_uri();
  io::Task<void> drain(Server* server);
  io::Task<bool> open_device();
  io::Task<void> nemesis();
  io::Task<void> one_fault();
  io::Task<void> net_fault(uint64_t kind, std::string port);
  io::Task<void> crash_fault(bool everything);
  io::Task<void> half_open();
  const io::nvme::NvmePath& path(size_t index) const { return *device_->nvme_paths()[index]; }
  void check_times(uint64_t began_ns, uint64_t op);
  io::Task<void> finish();
  io::Task<bool> wait_ready(uint64_t limit_ns);
  io::Task<void> worker(Prng prng);
  io::Task<void> one_op(Prng* prng, std::vector<std::byte>* buffer);
  io::Task<void> verify();
  io::Task<void> verify_shared();
  struct Before {  // how things stood when a request was sent
    uint64_t incarnation = 0;
    uint64_t power_losses = 0;
    bool fua = false;
  };
  void end_op(DiskModel::OpId op, io::IoOp kind, Before before, const Status& status,
              uint64_t first, ConstBytes bytes);
  void check_memory();
  void fail(std::string violation);
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    world_.trace().event(world_.now_ns(), what, a, b, c);
  }

  RunOptions options_;
  SimLoop world_;
  Prng prng_;
  SimNet net_;
  std::unique_ptr<SimDrive> drive_;
  std::vector<std::unique_ptr<Server>> servers_;  // null while it is down
  std::vector<std::string> names_;                // of the ports, one for each path
  bool nodes_apart_ = false;                      // each path leads to a server of its own
  bool promises_ = true;                          // the target fences reconnects
  std::vector<std::unique_ptr<Server>> draining_;
  std::unique_ptr<SimNode> host_;
  std::unique_ptr<io::Network> host_port_;
  std::unique_ptr<io::nvme::NvmeDevice> device_;
  std::unique_ptr<DiskModel> model_;
  std::unique_ptr<io::TaskGroup> workers_;
  SharedBlocks shared_;
  std::vector<std::unique_ptr<RawHost>> raw_hosts_;  // none in some runs
  io::TaskGroup raw_tasks_;
  io::TaskGroup drains_;
  io::TaskGroup top_;

  uint64_t keep_alive_ns_ = 0;
  uint64_t io_timeout_ns_ = 0;
  uint64_t ops_left_ = 0;
  uint32_t queue_depth_ = 16;
  uint32_t worker_count_ = 1;
  bool done_ = false;
  std::string violation_;
  RunStats stats_;
};

}  // namespace bb::sim
