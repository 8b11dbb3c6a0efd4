// SPDX-License-Identifier: Apache-2.0
// What a target tells about its exports and connections.
#include "io/nvme/target.h"

namespace bb::io::nvme {

void Target::Past::add(const TargetQueue& queue) {
  io.merge(queue.stats());
  digest_errors += queue.digest_errors();
}

// A connection that has ended is remembered in the sum of its export.
void Target::remember(const TargetConnection& connection) {
  auto found = core_.subsystems().find(connection.nqn());
  if (found != core_.subsystems().end()) past_[connection.nqn()].add(connection.queue());
}

void Target::collect(StatsReport* into) const {
  for (const auto& [nqn, subsystem] : core_.subsystems()) {
    if (subsystem->config().home != 0) continue;  // it tells of itself there
    size_t at = into->objects.size();
    into->objects.emplace_back();
    Past sum;
    if (auto found = past_.find(nqn); found != past_.end()) sum = found->second;
    uint64_t in_flight = 0;
    for (const auto& connection : connections_) {
      if (connection->nqn() != nqn) continue;
      const TargetQueue& queue = connection->queue();
      sum.add(queue);
      if (queue.queue_id() == 0) continue;  // admin: no I/O
      in_flight += queue.commands();
      into->objects.push_back({.type = "connection",
                               .name = "nvme-tcp " + connection->peer(),
                               .labels = {{"export", nqn},
                                          {"host", connection->host().host_nqn},
                                          {"peer", connection->peer()},
                                          {"queue", std::to_string(queue.queue_id())}},
                               .in_flight = queue.commands(),
                               .events = {{"digest_errors", queue.digest_errors()}},
                               .io = queue.stats()});
    }
    into->objects[at] = {.type = "export",
                         .name = nqn,
                         .in_flight = in_flight,
                         .events = {{"digest_errors", sum.digest_errors}},
                         .io = std::move(sum.io)};
  }
  into->add_records(core_.recorder);
}

}  // namespace bb::io::nvme
