// SPDX-License-Identifier: Apache-2.0
// What a server tells about its exports and connections.
#include "io/nbd/connection.h"

namespace bb::io::nbd {

// A connection that has ended is remembered in the sum of its export.
void Server::remember(const Connection& connection) {
  if (connection.chosen() != nullptr) {
    past_[connection.chosen()->info.name].merge(connection.stats());
  }
}

void Server::collect(StatsReport* into) const {
  for (const auto& each : exports_) {
    if (each->home != 0) continue;  // it tells of itself there
    const std::string& name = each->info.name;
    size_t at = into->objects.size();
    into->objects.push_back({.type = "export", .name = name});
    IoStats sum;
    if (auto found = past_.find(name); found != past_.end()) sum = found->second;
    uint64_t in_flight = 0;
    for (const auto& connection : connections_) {
      if (connection->chosen() != each.get()) continue;
      ConnectionInfo info = connection->info();
      sum.merge(connection->stats());
      in_flight += info.in_flight;
      into->objects.push_back({.type = "connection",
                               .name = fmt::format("nbd {}", info.id),
                               .labels = {{"export", name}, {"host", info.peer}},
                               .in_flight = info.in_flight,
                               .io = connection->stats()});
    }
    into->objects[at].in_flight = in_flight;
    into->objects[at].io = std::move(sum);
  }
  into->add_records(recorder_);
}

}  // namespace bb::io::nbd
