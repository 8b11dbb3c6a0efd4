// SPDX-License-Identifier: Apache-2.0
// Get Features and Set Features.
#include <algorithm>
#include <iterator>

#include "base/units.h"
#include "io/nvme/target_core.h"

namespace bb::io::nvme {
namespace {

constexpr FeatureId kFeatures[] = {
    FeatureId::kArbitration,    FeatureId::kPowerManagement,    FeatureId::kTemperatureThreshold,
    FeatureId::kErrorRecovery,  FeatureId::kVolatileWriteCache, FeatureId::kNumberOfQueues,
    FeatureId::kWriteAtomicity, FeatureId::kAsyncEventConfig,   FeatureId::kKeepAliveTimer,
    FeatureId::kHostIdentifier, FeatureId::kReservationMask,    FeatureId::kReservationPersistence};

constexpr FeatureId kDiscoveryFeatures[] = {FeatureId::kAsyncEventConfig,
                                            FeatureId::kKeepAliveTimer, FeatureId::kHostIdentifier};

}  // namespace

// NVMe base 2.0, 3.1.3: a discovery controller has fewer.
bool Controller::has_feature(FeatureId feature) const {
  if (discovery()) {
    return std::find(std::begin(kDiscoveryFeatures), std::end(kDiscoveryFeatures), feature) !=
           std::end(kDiscoveryFeatures);
  }
  if (feature == FeatureId::kVolatileWriteCache) return subsystem_->volatile_cache();
  return std::find(std::begin(kFeatures), std::end(kFeatures), feature) != std::end(kFeatures);
}

std::vector<FeatureId> Controller::features() const {
  std::vector<FeatureId> all;
  for (FeatureId feature : kFeatures) {
    if (has_feature(feature)) all.push_back(feature);
  }
  return all;
}

// NVMe base 2.0, 5.15: nothing can be saved, so what is saved is the default.
AdminReply Controller::get_features(const Sqe& sqe) const {
  constexpr uint32_t kCurrent = 0;
  constexpr uint32_t kSupportedCapabilities = 3;
  auto feature = static_cast<FeatureId>(sqe.cdw10 & 0xff);
  if (!has_feature(feature)) return refusal(NvmeStatus::kInvalidField);
  uint32_t select = (sqe.cdw10 >> 8) & 7;
  if (select > kSupportedCapabilities) return refusal(NvmeStatus::kInvalidField);
  if (select == kSupportedCapabilities) {
    bool changeable =
        feature != FeatureId::kVolatileWriteCache && feature != FeatureId::kHostIdentifier;
    return {.result = changeable ? 4u : 0u};
  }
  bool now = select == kCurrent;
  uint32_t queues = granted_queues == 0 ? 0 : granted_queues - 1u;
  switch (feature) {
    case FeatureId::kArbitration:
    case FeatureId::kPowerManagement:
    case FeatureId::kErrorRecovery:
    case FeatureId::kWriteAtomicity:
      return {};
    case FeatureId::kTemperatureThreshold:
      return {.result = now ? temperature_threshold_ : kTemperatureThreshold};
    case FeatureId::kVolatileWriteCache:
      return {.result = 1};
    case FeatureId::kNumberOfQueues:
      return {.result = queues | (queues << 16)};
    case FeatureId::kAsyncEventConfig:
      return {.result = now ? events_.enabled() : 0};
    case FeatureId::kKeepAliveTimer:
      return {.result = now ? keep_alive_ms_ : 0};
    case FeatureId::kHostIdentifier: {
      if ((sqe.cdw11 & 1) == 0) break;  // fabrics know only the long identifier
      AdminReply reply;
      reply.data.assign(host_.host_id.bytes.begin(), host_.host_id.bytes.end());
      return reply;
    }
    case FeatureId::kReservationMask:
    case FeatureId::kReservationPersistence:
      return get_reservation_feature(feature, sqe.nsid);
    case FeatureId::kHostBehavior:
      break;
  }
  return refusal(NvmeStatus::kInvalidField);
}

// Features of a namespace (NVMe base 2.0, 5.27.1.25 and 5.27.1.26).
AdminReply Controller::get_reservation_feature(FeatureId feature, uint32_t nsid) const {
  if (discovery()) return refusal(NvmeStatus::kInvalidField);
  const Namespace* found = subsystem_->find(nsid);
  if (found == nullptr) return refusal(NvmeStatus::kInvalidNamespace);
  const NamespaceReservation& reservation = *found->reservation;
  if (feature == FeatureId::kReservationMask) return {.result = reservation.notification_mask};
  return {.result = reservation.state().persistent ? 1u : 0u};
}

AdminReply Controller::set_reservation_mask(const Sqe& sqe) {
  constexpr uint32_t kKnown = 0x0e;  // a bit for each type of notification
  if (discovery() || (sqe.cdw11 & ~kKnown) != 0) return refusal(NvmeStatus::kInvalidField);
  if (sqe.nsid != kNsidAll && subsystem_->find(sqe.nsid) == nullptr) {
    return refusal(NvmeStatus::kInvalidNamespace);
  }
  for (uint32_t nsid : subsystem_->nsids()) {
    bool meant = sqe.nsid == kNsidAll || sqe.nsid == nsid;
    if (meant) subsystem_->find(nsid)->reservation->notification_mask = sqe.cdw11;
  }
  return {};
}

AdminReply Controller::set_features(const Sqe& sqe) {
  if ((sqe.cdw10 >> 31) != 0) return refusal(NvmeStatus::kFeatureNotSaveable);
  auto feature = static_cast<FeatureId>(sqe.cdw10 & 0xff);
  if (!has_feature(feature)) return refusal(NvmeStatus::kInvalidField);
  switch (feature) {
    case FeatureId::kArbitration:
    case FeatureId::kErrorRecovery:
    case FeatureId::kWriteAtomicity:
      return {};
    case FeatureId::kPowerManagement:
      if ((sqe.cdw11 & 31) != 0) break;
      return {};
    case FeatureId::kTemperatureThreshold:
      temperature_threshold_ = sqe.cdw11;
      return {};
    case FeatureId::kVolatileWriteCache:  // the cache is the device's own
      return (sqe.cdw11 & 1) != 0 ? AdminReply{} : refusal(NvmeStatus::kFeatureNotChangeable);
    case FeatureId::kNumberOfQueues: {
      uint32_t submission = sqe.cdw11 & 0xffff;
      uint32_t completion = sqe.cdw11 >> 16;
      if (submission == 0xffff || completion == 0xffff) break;
      uint32_t wanted = std::min(submission, completion) + 1;
      for (size_t id = 1; id < queues.size(); ++id) {
        if (queues[id] != nullptr) return refusal(NvmeStatus::kCommandSequenceError);
      }
      granted_queues = static_cast<uint16_t>(std::min<uint32_t>(wanted, core_.limits().io_queues));
      uint32_t granted = granted_queues - 1u;
      return {.result = granted | (granted << 16)};
    }
    case FeatureId::kAsyncEventConfig:
      events_.enable(sqe.cdw11);
      return {};
    case FeatureId::kKeepAliveTimer:
      keep_alive_ms_ = static_cast<uint32_t>(
          std::min<uint64_t>(round_up(sqe.cdw11, kKeepAliveGranularityMs), UINT32_MAX));
      return {};
    case FeatureId::kHostIdentifier:
      return refusal(NvmeStatus::kCommandSequenceError);  // it came with Connect
    case FeatureId::kReservationMask:
      return set_reservation_mask(sqe);
    case FeatureId::kReservationPersistence:  // TargetQueue::run_persistence
    case FeatureId::kHostBehavior:
      break;
  }
  return refusal(NvmeStatus::kInvalidField);
}

}  // namespace bb::io::nvme
