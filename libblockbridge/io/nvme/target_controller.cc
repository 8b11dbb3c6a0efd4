// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/units.h"
#include "io/nvme/target_core.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kReadyTimeoutMs = 7500;
constexpr uint16_t kKeepAliveGranularityMs = 1000;
constexpr size_t kErrorEntries = 16;
constexpr size_t kNamespaceEvent = 0;
constexpr size_t kDiscoveryEvent = 1;

AdminReply fail(NvmeStatus status) { return {.status = final_status(status)}; }

const std::vector<LogId> kLogPages = {LogId::kSupportedPages,
                                      LogId::kError,
                                      LogId::kSmart,
                                      LogId::kFirmware,
                                      LogId::kChangedNamespaces,
                                      LogId::kCommandEffects,
                                      LogId::kFeaturesSupported};

const std::vector<FeatureId> kFeatures = {
    FeatureId::kArbitration,    FeatureId::kPowerManagement,    FeatureId::kTemperatureThreshold,
    FeatureId::kErrorRecovery,  FeatureId::kVolatileWriteCache, FeatureId::kNumberOfQueues,
    FeatureId::kWriteAtomicity, FeatureId::kAsyncEventConfig,   FeatureId::kKeepAliveTimer,
    FeatureId::kHostIdentifier};

const std::vector<AdminOpcode> kAdminCommands = {
    AdminOpcode::kGetLogPage,  AdminOpcode::kIdentify,    AdminOpcode::kAbort,
    AdminOpcode::kSetFeatures, AdminOpcode::kGetFeatures, AdminOpcode::kAsyncEventRequest,
    AdminOpcode::kKeepAlive};

std::vector<IoOpcode> io_commands(const Geometry& geometry) {
  std::vector<IoOpcode> all = {IoOpcode::kFlush, IoOpcode::kWrite, IoOpcode::kRead,
                               IoOpcode::kCompare, IoOpcode::kWriteZeroes};
  if (geometry.discard) all.push_back(IoOpcode::kDatasetManagement);
  return all;
}

}  // namespace

Controller::Controller(TargetCore& core, std::shared_ptr<Subsystem> subsystem, HostIdentity host,
                       uint16_t id, uint32_t keep_alive_ms)
    : granted_queues(subsystem == nullptr ? uint16_t{0} : core.limits().io_queues),
      core_(core),
      subsystem_(std::move(subsystem)),
      host_(std::move(host)),
      id_(id),
      keep_alive_ms_(keep_alive_ms) {}

const std::string& Controller::nqn() const {
  static const std::string discovery_nqn(kDiscoveryNqn);
  return discovery() ? discovery_nqn : subsystem_->config.nqn;
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
      return {.result = csts_};
    case Property::kNssr:
      break;
  }
  return fail(NvmeStatus::kInvalidField);
}

AdminReply Controller::property_set(const Sqe& sqe) {
  if ((sqe.cdw10 & 7) != 0 || static_cast<Property>(sqe.cdw11) != Property::kCc) {
    return fail(NvmeStatus::kInvalidField);
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
  if ((cc_ & kCcShutdownMask) != 0) csts_ |= kCstsShutdownDone;
  return {};
}

// Controller level reset: the I/O queues go, the admin queue's connection stays.
void Controller::reset() {
  csts_ &= ~(kCstsReady | kCstsFatal);
  event_config_ = 0;
  pending_ = {};
  masked_ = {};
  for (size_t id = 1; id < queues.size(); ++id) {
    TargetQueue* queue = std::exchange(queues[id], nullptr);
    if (queue != nullptr) queue->controller_ended("the controller was reset");
  }
  if (queues[0] != nullptr) queues[0]->abort_events();
}

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
  if (discovery()) return fail(NvmeStatus::kInvalidField);
  bool known = sqe.nsid == 1;
  bool nvm = (sqe.cdw11 >> 24) == 0;  // CSI
  switch (cns) {
    case IdentifyCns::kController:
      break;
    case IdentifyCns::kNamespace:
      if (!known) return fail(NvmeStatus::kInvalidNamespace);
      namespace_info().encode(reply.data);
      break;
    case IdentifyCns::kCommandSetActiveNamespaces:
      if (!nvm) return fail(NvmeStatus::kInvalidField);
      [[fallthrough]];
    case IdentifyCns::kActiveNamespaces:
      if (sqe.nsid >= 0xfffffffe) return fail(NvmeStatus::kInvalidNamespace);
      encode_namespace_list(reply.data, {1}, sqe.nsid);
      break;
    case IdentifyCns::kNamespaceDescriptors:
      if (!known) return fail(NvmeStatus::kInvalidNamespace);
      NamespaceDescriptors{.uuid = subsystem_->config.uuid}.encode(reply.data);
      break;
    case IdentifyCns::kCommandSetNamespace:
      if (!nvm) return fail(NvmeStatus::kInvalidField);
      if (!known) return fail(NvmeStatus::kInvalidNamespace);
      break;  // all zero: no protection information
    case IdentifyCns::kCommandSetController:
      if (!nvm) return fail(NvmeStatus::kInvalidField);
      break;  // all zero: no limits but MDTS
    case IdentifyCns::kIndependentNamespace:
      if (!known) return fail(NvmeStatus::kInvalidNamespace);
      namespace_info().encode_independent(reply.data);
      break;
    default:
      return fail(NvmeStatus::kInvalidField);
  }
  return reply;
}

bool Controller::log_page(LogId id, LogData* data) {
  static const std::string discovery_firmware = "0.1";
  switch (id) {
    case LogId::kSupportedPages: {
      std::vector<LogId> pages = kLogPages;
      if (discovery()) pages = {LogId::kSupportedPages, LogId::kError, LogId::kDiscovery};
      *data = encode_supported_pages(pages);
      return true;
    }
    case LogId::kError: {
      std::vector<ErrorEntry> newest_first(errors_.rbegin(), errors_.rend());
      newest_first.resize(kErrorEntries);
      *data = encode_error_log(newest_first);
      return true;
    }
    case LogId::kDiscovery:
      if (!discovery()) return false;
      *data = core_.discovery_log(host_, local_host);
      return true;
    case LogId::kSmart: {
      if (discovery()) return false;
      const Counters& total = subsystem_->counters;
      *data = encode_smart_log({.bytes_read = total.read_bytes,
                                .bytes_written = total.written_bytes,
                                .reads = total.reads,
                                .writes = total.writes,
                                .error_entries = error_count_});
      return true;
    }
    case LogId::kFirmware:
      *data = encode_firmware_log(discovery() ? discovery_firmware : subsystem_->config.firmware);
      return true;
    case LogId::kChangedNamespaces:
      if (discovery()) return false;
      *data = encode_changed_namespaces(changed_namespaces_);
      changed_namespaces_.clear();
      return true;
    case LogId::kCommandEffects:
      if (discovery()) return false;
      *data = encode_command_effects(kAdminCommands, io_commands(subsystem_->config.geometry));
      return true;
    case LogId::kFeaturesSupported:
      *data = encode_features_supported(kFeatures);
      return true;
  }
  return false;
}

AdminReply Controller::get_log_page(const Sqe& sqe) {
  auto id = static_cast<LogId>(sqe.cdw10 & 0xff);
  bool retain = (sqe.cdw10 & (1u << 15)) != 0;  // RAE
  uint64_t length = (((sqe.cdw10 >> 16) | (uint64_t{sqe.cdw11 & 0xffff} << 16)) + 1) * 4;
  uint64_t offset = sqe.cdw12 | (uint64_t{sqe.cdw13} << 32);
  if (length != sqe.sgl.length_bytes) return fail(NvmeStatus::kSglDataLengthInvalid);
  LogData page;
  if (!log_page(id, &page)) return fail(NvmeStatus::kInvalidLogPage);
  if (offset > page.size() || offset % 4 != 0) return fail(NvmeStatus::kInvalidField);
  AdminReply reply;
  reply.data.assign(page.begin() + static_cast<ptrdiff_t>(offset), page.end());
  if (reply.data.size() > length) reply.data.resize(length);
  if (!retain && id == LogId::kChangedNamespaces) told(kNamespaceEvent);
  if (!retain && id == LogId::kDiscovery) told(kDiscoveryEvent);
  return reply;
}

AdminReply Controller::get_features(const Sqe& sqe) const {
  constexpr uint32_t kSupportedCapabilities = 3;
  auto feature = static_cast<FeatureId>(sqe.cdw10 & 0xff);
  if (((sqe.cdw10 >> 8) & 7) == kSupportedCapabilities) {
    bool known = std::find(kFeatures.begin(), kFeatures.end(), feature) != kFeatures.end();
    return known ? AdminReply{.result = 4} : fail(NvmeStatus::kInvalidField);  // changeable
  }
  uint32_t queues = granted_queues == 0 ? 0 : granted_queues - 1u;
  switch (feature) {
    case FeatureId::kArbitration:
    case FeatureId::kPowerManagement:
    case FeatureId::kErrorRecovery:
    case FeatureId::kWriteAtomicity:
      return {};
    case FeatureId::kTemperatureThreshold:
      return {.result = temperature_threshold_};
    case FeatureId::kVolatileWriteCache:
      if (discovery() || !subsystem_->config.geometry.volatile_cache) break;
      return {.result = 1};
    case FeatureId::kNumberOfQueues:
      if (discovery()) break;
      return {.result = queues | (queues << 16)};
    case FeatureId::kAsyncEventConfig:
      return {.result = event_config_};
    case FeatureId::kKeepAliveTimer:
      return {.result = keep_alive_ms_};
    case FeatureId::kHostIdentifier: {
      if ((sqe.cdw11 & 1) == 0) break;  // fabrics know only the long identifier
      AdminReply reply;
      reply.data.assign(host_.host_id.bytes.begin(), host_.host_id.bytes.end());
      return reply;
    }
    case FeatureId::kHostBehavior:
      break;
  }
  return fail(NvmeStatus::kInvalidField);
}

AdminReply Controller::set_features(const Sqe& sqe) {
  if ((sqe.cdw10 >> 31) != 0) return fail(NvmeStatus::kFeatureNotSaveable);
  switch (static_cast<FeatureId>(sqe.cdw10 & 0xff)) {
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
      if (discovery() || !subsystem_->config.geometry.volatile_cache) break;
      return (sqe.cdw11 & 1) != 0 ? AdminReply{} : fail(NvmeStatus::kFeatureNotChangeable);
    case FeatureId::kNumberOfQueues: {
      if (discovery()) break;
      uint32_t submission = sqe.cdw11 & 0xffff;
      uint32_t completion = sqe.cdw11 >> 16;
      if (submission == 0xffff || completion == 0xffff) break;
      uint32_t wanted = std::min(submission, completion) + 1;
      for (size_t id = 1; id < queues.size(); ++id) {
        if (queues[id] != nullptr) return fail(NvmeStatus::kCommandSequenceError);
      }
      granted_queues = static_cast<uint16_t>(std::min<uint32_t>(wanted, core_.limits().io_queues));
      uint32_t granted = granted_queues - 1u;
      return {.result = granted | (granted << 16)};
    }
    case FeatureId::kAsyncEventConfig:
      event_config_ = sqe.cdw11;
      return {};
    case FeatureId::kKeepAliveTimer:
      keep_alive_ms_ = static_cast<uint32_t>(
          std::min<uint64_t>(round_up(sqe.cdw11, kKeepAliveGranularityMs), UINT32_MAX));
      return {};
    case FeatureId::kHostIdentifier:
      return fail(NvmeStatus::kCommandSequenceError);  // it came with Connect
    case FeatureId::kHostBehavior:
      break;
  }
  return fail(NvmeStatus::kInvalidField);
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

void Controller::raise_event(uint32_t event) {
  size_t index = event == kEventDiscoveryChanged ? kDiscoveryEvent : kNamespaceEvent;
  if (index == kNamespaceEvent) changed_namespaces_ = {1};
  pending_[index] = event;
  if (!queues.empty() && queues[0] != nullptr) queues[0]->deliver_events();
}

// The host has read the log page: the event may be raised again, and what it would have told is
// known.
void Controller::told(size_t event) {
  masked_[event] = false;
  pending_[event] = 0;
}

bool Controller::take_event(uint32_t* event) {
  constexpr uint32_t kEnabledBy[] = {kEventConfigNamespace, kEventConfigDiscovery};
  static_assert(std::size(kEnabledBy) == std::tuple_size_v<decltype(pending_)>);
  for (size_t i = 0; i < std::size(kEnabledBy); ++i) {
    if (pending_[i] == 0 || masked_[i] || (event_config_ & kEnabledBy[i]) == 0) continue;
    *event = std::exchange(pending_[i], 0);
    masked_[i] = true;
    return true;
  }
  return false;
}

}  // namespace bb::io::nvme
