// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_core.h"

#include <algorithm>

#include "io/nvme/target_queue.h"

namespace bb::io::nvme {

Status TargetCore::add_subsystem(SubsystemConfig config) {
  BB_TRY(check_nqn(config.nqn).with_context("subsystem"));
  const Geometry& geometry = config.geometry;
  if (geometry.block_count == 0 || (geometry.block_bytes != 512 && geometry.block_bytes != 4096) ||
      geometry.transfer_max_bytes < 8192) {
    return error(Code::k_invalid_argument,
                 "subsystem {}: {} blocks of {} bytes with transfers of {}: needed are blocks of "
                 "512 or 4096 bytes and transfers of at least 8192",
                 config.nqn, geometry.block_count, geometry.block_bytes,
                 geometry.transfer_max_bytes);
  }
  if (config.nqn == kDiscoveryNqn || subsystems_.contains(config.nqn)) {
    return error(Code::k_already_exists, "subsystem {}: is published already", config.nqn);
  }
  if (subsystems_.size() >= limits_.subsystems) {
    return error(Code::k_no_space, "subsystem {}: {} are published, that is the limit", config.nqn,
                 subsystems_.size());
  }
  auto subsystem = std::make_shared<Subsystem>();
  subsystem->config = std::move(config);
  std::string nqn = subsystem->config.nqn;
  subsystems_.emplace(std::move(nqn), std::move(subsystem));
  discovery_changed();
  return {};
}

Status TargetCore::remove_subsystem(const std::string& nqn) {
  auto found = subsystems_.find(nqn);
  if (found == subsystems_.end()) {
    return error(Code::k_not_found, "subsystem {}: is not published", nqn);
  }
  Subsystem* subsystem = found->second.get();
  end_controllers([subsystem](const Controller& c) { return c.subsystem() == subsystem; },
                  "the subsystem was removed");
  subsystems_.erase(found);
  discovery_changed();
  return {};
}

Status TargetCore::update_geometry(const std::string& nqn, const Geometry& geometry) {
  auto found = subsystems_.find(nqn);
  if (found == subsystems_.end()) {
    return error(Code::k_not_found, "subsystem {}: is not published", nqn);
  }
  found->second->config.geometry = geometry;
  for (const auto& controller : controllers_) {
    if (controller->subsystem() == found->second.get()) {
      controller->raise_event(EventKind::kNamespaceChanged);
    }
  }
  return {};
}

void TargetCore::discovery_changed() {
  ++generation_;
  for (const auto& controller : controllers_) {
    if (controller->discovery()) controller->raise_event(EventKind::kDiscoveryChanged);
  }
}

void TargetCore::left_behind(TargetQueue& queue, const Controller& controller) {
  if (controller.discovery() || !controller.subsystem()->config.single_association) return;
  leftovers_.push_back({.queue = &queue, .nqn = controller.nqn(), .host = controller.host()});
}

void TargetCore::came_back(TargetQueue& queue) {
  if (std::erase_if(leftovers_, [&](const Leftover& one) { return one.queue == &queue; }) == 0) {
    return;
  }
  for (TargetQueue* waiting : std::exchange(waiting_, {})) waiting->retry_connect_soon();
}

void TargetCore::disconnected(TargetQueue& queue, Controller& controller, uint16_t queue_id) {
  if (controller.queues[queue_id] == &queue) controller.queues[queue_id] = nullptr;
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
    for (TargetQueue* queue : controller->queues) {
      if (queue != nullptr) queue->controller_ended(why);
    }
  }
}

void TargetCore::expire(uint64_t now_ns) {
  end_controllers([now_ns](const Controller& c) { return c.expired(now_ns); },
                  "no keep alive in time");
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

}  // namespace bb::io::nvme
