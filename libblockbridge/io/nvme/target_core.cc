// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_core.h"

#include <algorithm>

#include "base/check.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

Status TargetCore::add_subsystem(SubsystemConfig config) {
  BB_TRY(check_nqn(config.nqn).with_context("subsystem"));
  if (config.nqn == kDiscoveryNqn || subsystems_.contains(config.nqn)) {
    return error(Code::k_already_exists, "subsystem {}: is published already", config.nqn);
  }
  if (subsystems_.size() >= limits_.subsystems) {
    return error(Code::k_no_space, "subsystem {}: {} are published, that is the limit", config.nqn,
                 subsystems_.size());
  }
  std::vector<NamespaceConfig> first = std::exchange(config.namespaces, {});
  auto subsystem = std::make_shared<Subsystem>(std::move(config));
  for (NamespaceConfig& one : first) {
    Result<uint32_t> added = subsystem->add(std::move(one), *this);
    if (!added.ok()) return added.status();
  }
  subsystem->settle(limits_);
  std::string nqn = subsystem->nqn();
  subsystems_.emplace(std::move(nqn), std::move(subsystem));
  discovery_changed();
  return {};
}

Status TargetCore::remove_subsystem(const std::string& nqn) {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  end_controllers([subsystem](const Controller& c) { return c.subsystem() == subsystem; },
                  "the subsystem was removed");
  subsystems_.erase(nqn);
  discovery_changed();
  return {};
}

Result<Subsystem*> TargetCore::find(const std::string& nqn) const {
  auto found = subsystems_.find(nqn);
  if (found != subsystems_.end()) return found->second.get();
  return error(Code::k_not_found, "subsystem {}: is not published", nqn);
}

Result<uint32_t> TargetCore::add_namespace(const std::string& nqn, NamespaceConfig config) {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  if (subsystem->config().home != 0) {
    return error(Code::k_bad_state, "subsystem {}: it lives on another loop", nqn);
  }
  BB_ASSIGN(uint32_t nsid, subsystem->add(std::move(config), *this));
  namespace_changed(*subsystem, nsid);
  return nsid;
}

Result<const Namespace*> TargetCore::find_namespace(const std::string& nqn, uint32_t nsid) const {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  const Namespace* found = subsystem->find(nsid);
  if (found != nullptr) return found;
  return error(Code::k_not_found, "subsystem {}: has no namespace {}", nqn, nsid);
}

Result<NamespaceRef> TargetCore::remove_namespace(const std::string& nqn, uint32_t nsid) {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  BB_TRY(find_namespace(nqn, nsid).status());
  NamespaceRef removed = subsystem->remove(nsid);
  namespace_changed(*subsystem, nsid);
  return removed;
}

Status TargetCore::update_geometry(const std::string& nqn, uint32_t nsid,
                                   const Geometry& geometry) {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  BB_TRY(find_namespace(nqn, nsid).status());
  Namespace* found = subsystem->find(nsid);
  std::string what = fmt::format("subsystem {}: namespace {}", nqn, nsid);
  BB_TRY(check_geometry(geometry).with_context(what));
  if (geometry.block_bytes != found->geometry.block_bytes) {
    return error(Code::k_invalid_argument, "{}: its blocks of {} bytes cannot become blocks of {}",
                 what, found->geometry.block_bytes, geometry.block_bytes);
  }
  found->geometry = geometry;
  namespace_changed(*subsystem, nsid);
  return {};
}

Status TargetCore::replace_device(const std::string& nqn, uint32_t nsid, Device* device,
                                  const Geometry& geometry) {
  BB_ASSIGN(Subsystem * subsystem, find(nqn));
  if (geometry.transfer_max_bytes < subsystem->transfer_max_bytes()) {
    return error(
        Code::k_invalid_argument,
        "subsystem {}: namespace {}: the device takes transfers of {} bytes, and hosts have "
        "been told {}",
        nqn, nsid, geometry.transfer_max_bytes, subsystem->transfer_max_bytes());
  }
  BB_TRY(update_geometry(nqn, nsid, geometry));
  Namespace* found = subsystem->find(nsid);
  found->device = device;
  found->write_through = geometry.volatile_cache && !subsystem->volatile_cache();
  return {};
}

void TargetCore::namespace_changed(const Subsystem& subsystem, uint32_t nsid) {
  for (const auto& controller : controllers_) {
    if (controller->subsystem() == &subsystem) controller->on_namespace_changed(nsid);
  }
}

void TargetCore::discovery_changed() {
  ++generation_;
  for (const auto& controller : controllers_) {
    if (controller->discovery()) controller->raise_event(EventKind::kDiscoveryChanged);
  }
}

void TargetCore::left_behind(TargetQueue& queue, const Controller& controller) {
  if (controller.discovery()) return;
  leftovers_.push_back({.queue = &queue,
                        .nqn = controller.nqn(),
                        .host = controller.host(),
                        .local_address = controller.local_address,
                        .controller_id = controller.id()});
}

bool TargetCore::has_leftovers(uint16_t controller_id) const {
  return std::any_of(leftovers_.begin(), leftovers_.end(), [controller_id](const Leftover& one) {
    return one.controller_id == controller_id;
  });
}

void TargetCore::came_back(TargetQueue& queue) {
  if (std::erase_if(leftovers_, [&](const Leftover& one) { return one.queue == &queue; }) == 0) {
    return;
  }
  for (TargetQueue* waiting : std::exchange(waiting_, {})) waiting->retry_connect_soon();
}

void TargetCore::aborted_io_back() {
  for (const NamespaceRef& one : std::exchange(aborting_, {})) {
    one->reservation->on_aborted_back();
    if (one->reservation->waits_for_aborted()) aborting_.push_back(one);
  }
}

void TargetCore::save_reservation(Namespace& of, const ReservationState& state) {
  BB_CHECK(save_reservation_ != nullptr, "namespace {}: nobody can save its reservation", of.nsid);
  save_reservation_(&of, state);
}

void TargetCore::disconnected(TargetQueue& queue, Controller& controller, uint16_t queue_id) {
  if (controller.queues[queue_id] == &queue) controller.queues[queue_id] = nullptr;
  std::erase(controller.strangers, &queue);
  if (queue_id != 0) return;
  end_controllers([&controller](const Controller& c) { return &c == &controller; },
                  "the admin queue was closed");
}

void TargetCore::end_controllers(const std::function<bool(const Controller&)>& of,
                                 const char* why) {
  std::vector<std::unique_ptr<Controller>> ended;
  for (auto& controller : controllers_) {
    if (of(*controller)) ended.push_back(std::move(controller));
  }
  std::erase(controllers_, nullptr);
  for (auto& controller : ended) {
    ++controllers_ended;
    controller->end_queues(0, why);
  }
}

void TargetCore::expire(uint64_t now_ns) {
  end_controllers([now_ns](const Controller& c) { return c.expired(now_ns); },
                  "no keep alive in time");
}

Status TargetCore::set_ana_state(uint16_t port, uint32_t group, AnaState state) {
  BB_ASSIGN(bool changed, ana_.set(port, group, state));
  for (const auto& controller : controllers_) {
    if (!changed || controller->port() != port || controller->discovery()) continue;
    controller->raise_event(EventKind::kAnaChanged);
    for (TargetQueue* queue : controller->queues) {
      if (queue != nullptr) queue->look_again();
    }
  }
  return {};
}

// Groups without a namespace are not named.
LogData TargetCore::ana_log(const Controller& controller, bool groups_only) const {
  std::map<uint32_t, AnaGroup> groups;
  const Subsystem& subsystem = *controller.subsystem();
  for (Namespace* each = subsystem.next(1); each != nullptr;
       each = subsystem.next(each->nsid + 1)) {
    AnaGroup& group = groups[each->ana_group];
    group.id = each->ana_group;
    group.state = controller.ana().state(group.id);
    group.change_count = controller.ana().changed_at(group.id);
    if (!groups_only) group.nsids.push_back(each->nsid);
  }
  std::vector<AnaGroup> all;
  all.reserve(groups.size());
  for (auto& [id, group] : groups) all.push_back(std::move(group));
  return encode_ana_log(ana_.change_count(), all);
}

LogData TargetCore::discovery_log(const HostIdentity& host, const std::string& local_host) const {
  std::vector<DiscoveryEntry> entries;
  for (const auto& [nqn, subsystem] : subsystems_) {
    if (!subsystem->allows(host.host_nqn)) continue;
    for (DiscoveryEntry entry : addresses_) {
      if (entry.address.empty()) entry.address = local_host;
      if (entry.address.empty()) continue;
      entry.ipv6 = entry.address.find(':') != std::string::npos;
      entry.subsystem_nqn = nqn;
      entry.admin_queue_size = limits_.admin_queue_depth;
      entries.push_back(std::move(entry));
    }
  }
  return encode_discovery_log(generation_, entries);
}

// As much as is left for all: so a few who hold much leave little to themselves, not to others.
uint64_t TargetCore::buffer_share() const {
  uint64_t left =
      limits_.buffered_total_bytes - std::min(limits_.buffered_total_bytes, buffered_bytes);
  return std::max(limits_.buffered_reserve_bytes, std::min(limits_.buffered_bytes, left));
}

}  // namespace bb::io::nvme
