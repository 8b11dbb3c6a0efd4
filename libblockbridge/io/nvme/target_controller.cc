// SPDX-License-Identifier: Apache-2.0
// The controller's registers, its keep alive and its events.
#include <algorithm>

#include "base/units.h"
#include "io/nvme/target_core.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kReadyTimeoutMs = 7500;

}  // namespace

Controller::Controller(TargetCore& core, std::shared_ptr<Subsystem> subsystem, HostIdentity host,
                       Place place, uint32_t keep_alive_ms)
    : granted_queues(subsystem == nullptr ? uint16_t{0} : core.limits().io_queues),
      core_(core),
      subsystem_(std::move(subsystem)),
      host_(std::move(host)),
      place_(std::move(place)),
      ana_(core.ana_port(place_.port)),
      keep_alive_ms_(keep_alive_ms) {}

const std::string& Controller::nqn() const {
  static const std::string discovery_nqn(kDiscoveryNqn);
  return discovery() ? discovery_nqn : subsystem_->nqn();
}

AdminReply Controller::property_get(const Sqe& sqe) const {
  bool eight = (sqe.cdw10 & 7) == 1;
  Capabilities cap{.queue_entries_max = core_.limits().io_queue_depth,
                   .ready_timeout_ms = kReadyTimeoutMs};
  switch (static_cast<Property>(sqe.cdw11)) {
    case Property::kCap:
      if (!eight) break;
      return {.result = cap.encode()};
    case Property::kVs:
      if (eight) break;
      return {.result = kVersion20};
    case Property::kCc:
      if (eight) break;
      return {.result = cc_};
    case Property::kCsts:
      if (eight) break;
      // A reset has ended when nothing of before it is with a device any more.
      return {.result = csts_ | (core_.has_leftovers(id()) ? kCstsReady : 0)};
    case Property::kNssr:
      break;
  }
  return refusal(NvmeStatus::kInvalidField);
}

AdminReply Controller::property_set(const Sqe& sqe) {
  if ((sqe.cdw10 & 7) != 0 || static_cast<Property>(sqe.cdw11) != Property::kCc) {
    return refusal(NvmeStatus::kInvalidField);
  }
  uint32_t before = cc_;
  cc_ = sqe.cdw12;
  bool enable = (cc_ & kCcEnable) != 0;
  if (enable && (before & kCcEnable) == 0) {
    bool sizes = discovery() || (cc_ & 0x00ff0000) == kCcEntrySizes;
    bool plain = ((cc_ >> 4) & 7) == 0 && ((cc_ >> 7) & 15) == 0;  // NVM command set, 4 KiB pages
    csts_ = sizes && plain ? kCstsReady : kCstsFatal;
  }
  if (!enable && (before & kCcEnable) != 0) reset();
  csts_ &= ~kCstsShutdownMask;
  bool normal = (cc_ & kCcShutdownMask) == kCcShutdownNormal;
  if (normal && !discovery()) {
    csts_ |= kCstsShutdownOccurring;
    return {.flush_first = true};
  }
  if ((cc_ & kCcShutdownMask) != 0) csts_ |= kCstsShutdownDone;
  return {};
}

// NVMe base 2.0, 3.6.1: a normal shutdown is complete when what was written stays.
void Controller::on_shutdown_flushed(bool done) {
  csts_ &= ~kCstsShutdownMask;
  if (done) csts_ |= kCstsShutdownDone;
}

// Controller level reset: the I/O queues go, the admin queue's connection stays.
void Controller::reset() {
  csts_ &= ~(kCstsReady | kCstsFatal);
  events_.reset();
  reservation_log_ = {};
  end_queues(1, "the controller was reset");
  if (queues[0] != nullptr) queues[0]->abort_events();
}

void Controller::end_queues(size_t first, const char* why) {
  for (size_t id = first; id < queues.size(); ++id) {
    TargetQueue* queue = std::exchange(queues[id], nullptr);
    if (queue != nullptr) queue->controller_ended(why);
  }
  for (TargetQueue* queue : std::exchange(strangers, {})) queue->controller_ended(why);
}

bool Controller::expired(uint64_t now_ns) const {
  if (keep_alive_ms_ == 0) return false;
  uint64_t allowed = uint64_t{keep_alive_ms_} * kNsPerMs + core_.limits().keep_alive_grace_ns;
  return now_ns > heard_ns_ && now_ns - heard_ns_ > allowed;
}

void Controller::note_error(const ErrorEntry& entry) {
  ++counters.errors;
  errors_.push_back(entry);
  errors_.back().count = ++error_count_;
  if (errors_.size() > kErrorEntries) errors_.erase(errors_.begin());
}

void Controller::on_namespace_changed(uint32_t nsid) {
  auto at = std::lower_bound(changed_namespaces_.begin(), changed_namespaces_.end(), nsid);
  if (at == changed_namespaces_.end() || *at != nsid) changed_namespaces_.insert(at, nsid);
  raise_event(EventKind::kNamespaceChanged);
}

void Controller::raise_event(EventKind kind) {
  events_.raise(kind);
  if (!queues.empty() && queues[0] != nullptr) queues[0]->deliver_events();
}

void Controller::notify_reservation(uint32_t nsid, NotificationType type) {
  reservation_log_.add(nsid, type);
  raise_event(EventKind::kReservation);
}

}  // namespace bb::io::nvme
