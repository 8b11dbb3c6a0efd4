// SPDX-License-Identifier: Apache-2.0
// What a controller says of itself and of its namespaces.
#include "io/nvme/target_core.h"

namespace bb::io::nvme {
ControllerInfo Controller::info() const {
  const TargetLimits& limits = core_.limits();
  ControllerInfo info;
  info.controller_id = id_;
  info.attributes = kCtrattHostId128 | kCtrattTrafficKeepsAlive;
  info.async_event_max = static_cast<uint8_t>(limits.async_events);
  info.error_entries = kErrorEntries;
  info.keep_alive_granularity_ms = kKeepAliveGranularityMs;
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
  const SubsystemConfig& config = subsystem_->config;
  info.serial = config.serial;
  info.model = config.model;
  info.firmware = config.firmware;
  info.async_events = kEventConfigNamespace;
  info.transfer_max_bytes = subsystem_->transfer_max_bytes(limits);
  info.command_max = limits.io_queue_depth;
  info.namespace_max = 1;
  info.optional_commands = static_cast<uint16_t>(
      kOncsCompare | kOncsWriteZeroes | (config.geometry.discard ? kOncsDatasetManagement : 0));
  info.volatile_cache = config.geometry.volatile_cache;
  info.capsule_bytes = static_cast<uint32_t>(kSqeBytes) + limits.capsule_data_bytes;
  return info;
}

NamespaceInfo Controller::namespace_info() const {
  const Geometry& geometry = subsystem_->config.geometry;
  return {.block_count = geometry.block_count,
          .block_bytes = geometry.block_bytes,
          .physical_block_bytes = geometry.physical_block_bytes,
          .read_only = geometry.read_only,
          .deallocate = geometry.discard,
          .uuid = subsystem_->config.uuid};
}

AdminReply Controller::identify(const Sqe& sqe) const {
  AdminReply reply;
  reply.data.resize(kIdentifyBytes);
  auto cns = static_cast<IdentifyCns>(sqe.cdw10 & 0xff);
  if (cns == IdentifyCns::kController) {
    info().encode(reply.data);
    return reply;
  }
  if (discovery()) return refusal(NvmeStatus::kInvalidField);
  bool known = sqe.nsid == 1;
  bool nvm = (sqe.cdw11 >> 24) == 0;  // CSI
  switch (cns) {
    case IdentifyCns::kController:
      break;
    case IdentifyCns::kNamespace:
      if (!known) return refusal(NvmeStatus::kInvalidNamespace);
      namespace_info().encode(reply.data);
      break;
    case IdentifyCns::kCommandSetActiveNamespaces:
      if (!nvm) return refusal(NvmeStatus::kInvalidField);
      [[fallthrough]];
    case IdentifyCns::kActiveNamespaces:
      if (sqe.nsid >= 0xfffffffe) return refusal(NvmeStatus::kInvalidNamespace);
      encode_namespace_list(reply.data, {1}, sqe.nsid);
      break;
    case IdentifyCns::kNamespaceDescriptors:
      if (!known) return refusal(NvmeStatus::kInvalidNamespace);
      NamespaceDescriptors{.uuid = subsystem_->config.uuid}.encode(reply.data);
      break;
    case IdentifyCns::kCommandSetNamespace:
      if (!nvm) return refusal(NvmeStatus::kInvalidField);
      if (!known) return refusal(NvmeStatus::kInvalidNamespace);
      break;  // all zero: no protection information
    case IdentifyCns::kCommandSetController:
      if (!nvm) return refusal(NvmeStatus::kInvalidField);
      break;  // all zero: no limits but MDTS
    case IdentifyCns::kIndependentNamespace:
      if (!known) return refusal(NvmeStatus::kInvalidNamespace);
      namespace_info().encode_independent(reply.data);
      break;
    default:
      return refusal(NvmeStatus::kInvalidField);
  }
  return reply;
}

}  // namespace bb::io::nvme
