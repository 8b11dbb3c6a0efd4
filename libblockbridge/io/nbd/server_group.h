// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/loop_parts.h"
#include "io/nbd/server.h"

namespace bb::io::nbd {

// One server on several loops, with one set of addresses. An export lives on one of the loops with
// its device and all its connections: a connection is accepted on the loop of this object, and goes
// to where it belongs once its client has chosen the export. Loops are counted from 0, which is
// this object's own. Limits hold for each loop; that of buffers is divided among them.
class ServerGroup {
 public:
  // `others`: runtimes with threads of their own, borrowed until stop() has returned.
  static Task<std::unique_ptr<ServerGroup>> create(Context front, std::vector<Runtime*> others,
                                                   ServerLimits limits, ServerTls tls);

  size_t loops() const { return 1 + others_.size(); }

  // The device belongs to the loop at `place`. Errors as of Server.
  Task<Status> add_export(size_t place, std::string name, Device* device, ExportOptions options);
  Result<std::string> start(Address at) { return front_->start(std::move(at)); }
  // As Server::collect, one loop after the other.
  Task<void> collect(StatsReport* into);

  Task<void> stop();

 private:
  explicit ServerGroup(Loop& loop) : others_(loop) {}

  std::unique_ptr<Server> front_;
  LoopParts<Server> others_;
};

}  // namespace bb::io::nbd
