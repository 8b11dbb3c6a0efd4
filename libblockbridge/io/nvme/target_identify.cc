// SPDX-License-Identifier: Apache-2.0
// What a controller says of itself and of its namespaces.
#include <algorithm>

#include "base/units.h"
#include "io/nvme/target_core.h"

namespace bb::io::nvme {
namespace {

constexpr uint8_t kAnaTransitionS = 10;

// How long after the keep alive timeout commands may still run: the grace we add to it, the look
// around twice a second, and time for what the device has.
uint16_t quiesce_ms(const TargetLimits& limits) {
  uint64_t grace_ms = limits.keep_alive_grace_ns / kNsPerMs;
  return static_cast<uint16_t>(std::min<uint64_t>(grace_ms + 4000, UINT16_MAX));
}

}  // namespace

ControllerInfo Controller::info() const {
  const TargetLimits& limits = core_.limits();
  ControllerInfo info;
  info.controller_id = id();
  info.attributes = kCtrattHostId128 | kCtrattTrafficKeepsAlive;
  info.async_event_max = static_cast<uint8_t>(limits.async_events);
  info.error_entries = kErrorEntries;
  info.keep_alive_granularity_ms = kKeepAliveGranularityMs;
  info.quiesce_ms = quiesce_ms(limits);
  info.subsystem_nqn = nqn();
  if (discovery()) {
    info.type = ControllerType::kDiscovery;
    info.model = "Blockbridge discovery";
    info.firmware = "0.1";
    info.async_events = kEventConfigDiscovery;
    info.transfer_max_bytes = limits.transfer_bytes;
    info.command_max = limits.io_queue_depth;  // Linux warns of less, whatever the admin queue's
    return info;
  }
  const SubsystemConfig& config = subsystem_->config();
  info.serial = config.serial;
  info.model = config.model;
  info.firmware = config.firmware;
  info.async_events = kEventConfigNamespace | kEventConfigAna;
  info.ana = true;
  info.ana_transition_s = kAnaTransitionS;
  info.transfer_max_bytes = subsystem_->transfer_max_bytes();
  info.command_max = limits.io_queue_depth;
  info.namespace_max = limits.namespaces;
  info.optional_commands =
      static_cast<uint16_t>(kOncsCompare | kOncsWriteZeroes | kOncsReservations | kOncsVerify |
                            kOncsCopy | (subsystem_->discards() ? kOncsDatasetManagement : 0));
  info.fused_compare_write = true;
  info.compare_write_blocks = info.transfer_max_bytes / 4096;  // of the largest there are
  info.volatile_cache = subsystem_->volatile_cache();
  info.fences_reconnect = config.single_association;
  info.capsule_bytes = static_cast<uint32_t>(kSqeBytes) + limits.capsule_data_bytes;
  return info;
}

// NVMe base 2.0, 5.17: what the controller says of itself and of its namespaces.
AdminReply Controller::identify(const Sqe& sqe) const {
  AdminReply reply;
  reply.data.resize(kIdentifyBytes);
  auto cns = static_cast<IdentifyCns>(sqe.cdw10 & 0xff);
  if (cns == IdentifyCns::kController) {
    info().encode(reply.data);
    return reply;
  }
  if (discovery()) return refusal(NvmeStatus::kInvalidField);
  bool nvm = (sqe.cdw11 >> 24) == 0;  // CSI
  switch (cns) {
    case IdentifyCns::kCommandSetActiveNamespaces:
      if (!nvm) break;
      [[fallthrough]];
    case IdentifyCns::kActiveNamespaces:
      if (sqe.nsid >= 0xfffffffe) return refusal(NvmeStatus::kInvalidNamespace);
      encode_namespace_list(reply.data, subsystem_->nsids(), sqe.nsid);
      return reply;
    case IdentifyCns::kCommandSetController:
      if (!nvm) break;
      encode_command_set_controller(reply.data, subsystem_->transfer_max_bytes());
      return reply;
    case IdentifyCns::kCommandSetNamespace:
      if (!nvm) break;
      [[fallthrough]];
    case IdentifyCns::kNamespace:
    case IdentifyCns::kNamespaceDescriptors:
    case IdentifyCns::kIndependentNamespace:
      return identify_namespace(cns, sqe.nsid);
    default:
      break;
  }
  return refusal(NvmeStatus::kInvalidField);
}

AdminReply Controller::identify_namespace(IdentifyCns cns, uint32_t nsid) const {
  if (nsid == 0 || nsid > core_.limits().namespaces) return refusal(NvmeStatus::kInvalidNamespace);
  AdminReply reply;
  reply.data.resize(kIdentifyBytes);
  const Namespace* found = subsystem_->find(nsid);
  if (found == nullptr) {  // 3.2.1.4: of one that is not active, all is zero
    if (cns != IdentifyCns::kNamespaceDescriptors) return reply;
    return refusal(NvmeStatus::kInvalidNamespace);
  }
  uint32_t transfer_blocks = subsystem_->transfer_max_bytes() / found->geometry.block_bytes;
  NamespaceInfo info{.block_count = found->geometry.block_count,
                     .block_bytes = found->geometry.block_bytes,
                     .physical_block_bytes = found->geometry.physical_block_bytes,
                     .read_only = found->geometry.read_only,
                     .deallocate = found->geometry.discard,
                     .reservations = reservation_capabilities(found->reservation->may_persist()),
                     .compare_write_blocks = transfer_blocks,
                     .copy_blocks = transfer_blocks,
                     .ana_group = found->ana_group,
                     .uuid = found->uuid};
  if (cns == IdentifyCns::kNamespace) info.encode(reply.data);
  if (cns == IdentifyCns::kIndependentNamespace) info.encode_independent(reply.data);
  if (cns == IdentifyCns::kNamespaceDescriptors) {
    NamespaceDescriptors{.uuid = found->uuid}.encode(reply.data);
  }
  return reply;  // kCommandSetNamespace: all zero, no protection information
}

}  // namespace bb::io::nvme
