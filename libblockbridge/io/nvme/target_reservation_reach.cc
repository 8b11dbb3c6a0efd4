// SPDX-License-Identifier: Apache-2.0
// Whom a reservation concerns: all controllers of a host, and their queues, closed ones included
// as long as their commands are with the device.
#include <algorithm>

#include "io/nvme/target_core.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

// Visits the controllers that have the namespace.
void each_controller(const TargetCore& core, const Namespace& of, auto visit) {
  for (const auto& controller : core.controllers()) {
    if (controller->discovery()) continue;
    if (controller->subsystem()->find(of.nsid) == &of) visit(*controller);
  }
}

void each_io_queue(const Controller& controller, auto visit) {
  for (size_t id = 1; id < controller.queues.size(); ++id) {
    if (controller.queues[id] != nullptr) visit(*controller.queues[id]);
  }
}

bool among(const std::vector<Uuid>& hosts, const HostIdentity& host) {
  return std::ranges::find(hosts, host.host_id) != hosts.end();
}

}  // namespace

void NamespaceReservation::notify(const ReservationNotice& notice) const {
  each_controller(core_, namespace_, [&](Controller& controller) {
    if (controller.host().host_id != notice.host) return;
    controller.notify_reservation(namespace_.nsid, notice.type);
  });
}

void NamespaceReservation::refuse_conflicting() const {
  each_controller(core_, namespace_, [](Controller& controller) {
    each_io_queue(controller, [](TargetQueue& queue) { queue.recheck(); });
  });
}

void NamespaceReservation::abort(const std::vector<Uuid>& hosts) {
  each_controller(core_, namespace_, [&](Controller& controller) {
    if (!among(hosts, controller.host())) return;
    each_io_queue(controller, [this](TargetQueue& queue) { queue.abort_commands(namespace_); });
  });
  for (const TargetCore::Leftover& one : core_.leftovers()) {
    if (among(hosts, one.host)) one.queue->abort_commands(namespace_);
  }
}

bool NamespaceReservation::aborting() const {
  bool any = std::ranges::any_of(core_.leftovers(), [this](const TargetCore::Leftover& one) {
    return one.queue->aborting(&namespace_);
  });
  for (const auto& controller : core_.controllers()) {
    each_io_queue(*controller,
                  [&](TargetQueue& queue) { any = any || queue.aborting(&namespace_); });
  }
  return any;
}

}  // namespace bb::io::nvme
