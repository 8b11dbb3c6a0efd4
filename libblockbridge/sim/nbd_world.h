// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/nbd/nbd_device.h"
#include "io/nbd/server.h"
#include "io/sync.h"
#include "sim/disk_model.h"
#include "sim/run_result.h"
#include "sim/sim_drive.h"
#include "sim/sim_net.h"

namespace bb::sim {

// One run over NBD: a drive behind the real server, the real client, a bad network between them,
// and a server's node that dies and comes back. The export is exclusive: without that, a write that
// was given up may still happen behind a later one, which no client of NBD can prevent.
class NbdWorld {
 public:
  explicit NbdWorld(const RunOptions& options);
  RunResult run();
  bool drained() const { return done_; }

 private:
  // The server's node from start to crash.
  struct Server {
    Server(SimLoop& world, SimClock clock, Prng prng) : node(world, clock, prng) {}
    SimNode node;
    std::unique_ptr<io::Network> port;
    std::unique_ptr<SimCable> cable;
    std::unique_ptr<io::nbd::Server> nbd;
  };

  io::Task<void> main();
  bool start_server();
  void crash_server(bool power);
  io::Task<void> drain(Server* server);
  io::Task<bool> open_device();
  io::Task<void> nemesis();
  io::Task<void> one_fault();
  io::Task<void> finish();
  io::Task<bool> wait_ready(uint64_t limit_ns);
  io::Task<void> worker(Prng prng);
  io::Task<void> one_op(Prng* prng, std::vector<std::byte>* buffer);
  io::Task<void> verify();
  struct Before {  // how things stood when a request was sent
    uint64_t incarnation = 0;
    uint64_t power_losses = 0;
    bool fua = false;
  };
  void end_op(DiskModel::OpId op, io::IoOp kind, Before before, const Status& status,
              uint64_t first, ConstBytes bytes);
  void fail(std::string violation);
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    world_.trace().event(world_.now_ns(), what, a, b, c);
  }

  RunOptions options_;
  SimLoop world_;
  Prng prng_;
  SimNet net_;
  std::unique_ptr<SimDrive> drive_;
  std::unique_ptr<Server> server_;  // null while it is down
  std::vector<std::unique_ptr<Server>> draining_;
  std::unique_ptr<SimNode> host_;
  std::unique_ptr<io::Network> host_port_;
  std::unique_ptr<io::nbd::NbdDevice> device_;
  std::unique_ptr<DiskModel> model_;
  std::unique_ptr<io::TaskGroup> workers_;
  io::TaskGroup drains_;
  io::TaskGroup top_;

  uint64_t io_timeout_ns_ = 0;
  uint64_t ops_left_ = 0;
  uint32_t queue_depth_ = 16;
  uint32_t worker_count_ = 1;
  bool done_ = false;
  std::string violation_;
  RunStats stats_;
};

}  // namespace bb::sim
