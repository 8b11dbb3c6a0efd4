// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "backplane/config.h"
#include "backplane/node_report.h"
#include "io/context.h"
#include "io/rpc/rpc_client.h"
#include "io/sync.h"

namespace bb::backplane {

// One configured backplane: keeps a connection to its disk node's control channel, with back-off,
// and the newest report. An unreachable one costs nobody else anything.
class BackplaneClient {
 public:
  BackplaneClient(io::Context context, BackplaneConfig config);
  void start();
  io::Task<void> stop();  // before destruction

  const BackplaneConfig& config() const { return config_; }
  bool online() const { return online_; }
  const std::string& detail() const { return detail_; }  // why it is offline
  // The last one heard of; of an offline backplane it is old. Empty before the first.
  const NodeReport& report() const { return report_; }
  // True once it was reached, or found unreachable, for the first time.
  io::Event& tried() { return tried_; }

  // UNAVAILABLE while offline. The answer refreshes the report's drive.
  io::Task<Result<NodeDrive>> claim(Uuid drive, ClaimRequest request);
  io::Task<Result<NodeDrive>> release(Uuid drive, ReleaseRequest request);
  // Asks for a report now; for callers that just changed something.
  io::Task<Status> refresh();

 private:
  io::Task<void> run();
  io::Task<Status> poll_until_lost();
  io::Task<Result<NodeDrive>> change(std::string method, Json params);
  void set_offline(const Status& why);

  io::Context context_;
  BackplaneConfig config_;
  std::unique_ptr<io::rpc::RpcClient> client_;
  NodeReport report_;
  bool online_ = false;
  std::string detail_ = "not reached yet";
  io::Event tried_;
  io::Event stopping_;
  io::Event wake_;  // stopping, or the connection is lost
  io::TaskGroup tasks_;
};

}  // namespace bb::backplane
