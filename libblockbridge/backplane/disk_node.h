// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backplane/config.h"
#include "backplane/drive.h"
#include "backplane/node_report.h"
#include "io/context.h"
#include "io/nvme/target.h"
#include "io/rpc/rpc_server.h"

namespace bb::backplane {

// Publishes drives: one NVMe subsystem each, reachable by the hosts that the drive's claim or, when
// it is free, the configuration names. Claims are asked for on the control channel:
//   node.info {}              -> NodeReport
//   drive.list {}             -> {"drives": [NodeDrive]}
//   drive.claim {drive, owner, owner_name, host_nqn, epoch, array, array_name} -> NodeDrive
//   drive.release {drive, owner, array, epoch, force} -> NodeDrive
//   io.stats, io.slow: see io/rpc/stats_methods.h
class DiskNode {
 public:
  // Takes the ports first, so that a failure there leaves the drives untouched. A drive that cannot
  // be opened is listed as refused and tried again; it fails only when no drive at all is usable.
  static io::Task<Result<std::unique_ptr<DiskNode>>> start(io::Context context,
                                                           DiskNodeConfig config);
  ~DiskNode();
  io::Task<void> stop();  // before destruction

  NodeReport report() const;
  void collect(io::StatsReport* into) const;  // drives, exports, connections
  std::vector<std::string> nvme_addresses() const;
  std::vector<std::string> control_addresses() const;

  io::Task<Result<NodeDrive>> claim(DriveClaimRequest request);
  io::Task<Result<NodeDrive>> release(DriveReleaseRequest request);

 private:
  struct Published;
  DiskNode(io::Context context, DiskNodeConfig config);
  Status listen();
  void add_methods();
  io::Task<Result<Json>> on_node_info(Json params);
  io::Task<Result<Json>> on_drive_list(Json params);
  io::Task<Result<Json>> on_claim(Json params);
  io::Task<Result<Json>> on_release(Json params);
  io::Task<Status> publish(DriveConfig config);
  io::Task<void> retry_refused();
  io::Task<Result<NodeDrive>> change_claim(Published* published, Result<ClaimDecision> decision);
  Published* find(const Uuid& drive);
  NodeDrive describe(const Published& published) const;

  io::Context context_;
  DiskNodeConfig config_;
  std::unique_ptr<io::nvme::Target> target_;
  io::rpc::RpcServer server_;
  std::vector<std::unique_ptr<Published>> drives_;  // only grows until stop
  struct Refused {
    DriveConfig config;
    Status status;
  };
  std::vector<Refused> refused_;
  io::Event stopping_;
  io::TaskGroup tasks_;
};

}  // namespace bb::backplane
