// SPDX-License-Identifier: Apache-2.0
// The Connect command: who may, and what it gets.
#include <algorithm>

#include "io/nvme/target_core.h"
#include "io/nvme/target_queue.h"

namespace bb::io::nvme {
namespace {

constexpr uint16_t kQueueIdAt = 42;  // in the Connect SQE
constexpr uint16_t kQueueSizeAt = 44;

ConnectAnswer refuse(NvmeStatus status, uint32_t result = 0) {
  return {.status = final_status(status), .result = result};
}

ConnectAnswer bad_command(uint16_t at) {
  return refuse(NvmeStatus::kConnectInvalidParameters, connect_invalid_parameter(at, false));
}

ConnectAnswer bad_data(uint16_t at) {
  return refuse(NvmeStatus::kConnectInvalidParameters, connect_invalid_parameter(at, true));
}

}  // namespace

ConnectAnswer TargetCore::admit(const Subsystem& subsystem, const HostIdentity& host) const {
  if (!subsystem.allows(host.host_nqn)) return refuse(NvmeStatus::kConnectInvalidHost);
  if (subsystem.config().admission == nullptr) return {};
  Status status = subsystem.config().admission->admit(host);
  if (status.ok()) return {};
  bool later = status.code() == Code::k_busy || status.code() == Code::k_unavailable ||
               status.code() == Code::k_timed_out;
  if (later) return {.status = NvmeStatus::kConnectControllerBusy};
  return refuse(NvmeStatus::kConnectInvalidHost);
}

ConnectAnswer TargetCore::connect(TargetQueue& queue, const ConnectCommand& command,
                                  ConstBytes data, uint64_t now_ns) {
  if (command.record_format != 0) return refuse(NvmeStatus::kConnectIncompatibleFormat);
  Result<ConnectData> parsed = ConnectData::decode(data);
  if (!parsed.ok()) {
    bool host = parsed.status().text().starts_with("host");
    return bad_data(host ? kConnectDataHostAt : kConnectDataSubsystemAt);
  }
  return command.queue_id == 0 ? connect_admin(queue, command, *parsed, now_ns)
                               : connect_io(queue, command, *parsed);
}

ConnectAnswer TargetCore::connect_admin(TargetQueue& queue, const ConnectCommand& command,
                                        const ConnectData& data, uint64_t now_ns) {
  if (command.queue_size == 0 || command.queue_size >= limits_.admin_queue_depth) {
    return bad_command(kQueueSizeAt);
  }
  if (data.controller_id != kControllerIdAny) return bad_data(kConnectDataControllerAt);
  std::shared_ptr<Subsystem> subsystem;
  if (data.subsystem_nqn != kDiscoveryNqn) {
    auto found = subsystems_.find(data.subsystem_nqn);
    if (found == subsystems_.end()) return bad_data(kConnectDataSubsystemAt);
    subsystem = found->second;
    ConnectAnswer admitted = admit(*subsystem, data.host);
    if (admitted.status != NvmeStatus::kSuccess) return admitted;
  }
  if (subsystem != nullptr && subsystem->config().single_association &&
      !replace_association(*subsystem, data.host, queue.local_address())) {
    waiting_.push_back(&queue);
    return {.later = true};
  }
  if (controllers_.size() >= limits_.controllers) {
    return {.status = NvmeStatus::kConnectControllerBusy};
  }
  uint16_t id = free_id();
  controllers_.push_back(
      std::make_unique<Controller>(*this, subsystem, data.host, id, command.keep_alive_ms));
  Controller* controller = controllers_.back().get();
  controller->heard(now_ns);
  controller->connected_ns = now_ns;
  controller->local_host = queue.local_host();
  controller->local_address = queue.local_address();
  controller->queues.assign(size_t{1} + limits_.io_queues, nullptr);
  controller->queues[0] = &queue;
  return {.result = id, .controller = controller};
}

// Ends what the host had by this address of ours: another address is another path, with an
// association of its own. False while commands of that are with the device.
bool TargetCore::replace_association(const Subsystem& subsystem, const HostIdentity& host,
                                     const std::string& local_address) {
  const std::string& nqn = subsystem.nqn();
  end_controllers(
      [&](const Controller& one) {
        return one.nqn() == nqn && one.host() == host && one.local_address == local_address;
      },
      "the host connected anew");
  return std::none_of(leftovers_.begin(), leftovers_.end(), [&](const Leftover& one) {
    return one.nqn == nqn && one.host == host && one.local_address == local_address;
  });
}

ConnectAnswer TargetCore::connect_io(TargetQueue& queue, const ConnectCommand& command,
                                     const ConnectData& data) {
  Controller* controller = nullptr;
  for (const auto& one : controllers_) {
    if (one->id() == data.controller_id) controller = one.get();
  }
  if (controller == nullptr || controller->discovery()) return bad_data(kConnectDataControllerAt);
  if (controller->nqn() != data.subsystem_nqn) return bad_data(kConnectDataSubsystemAt);
  if (controller->host().host_nqn != data.host.host_nqn) return bad_data(kConnectDataHostAt);
  if (controller->host().host_id != data.host.host_id) return bad_data(0);
  if (!controller->ready()) return refuse(NvmeStatus::kCommandSequenceError);
  if (command.queue_id > controller->granted_queues) return bad_command(kQueueIdAt);
  if (controller->queues[command.queue_id] != nullptr) {
    return refuse(NvmeStatus::kCommandSequenceError);
  }
  if (command.queue_size == 0 || command.queue_size >= limits_.io_queue_depth) {
    return bad_command(kQueueSizeAt);
  }
  ConnectAnswer admitted = admit(*controller->subsystem(), data.host);
  if (admitted.status != NvmeStatus::kSuccess) return admitted;
  controller->queues[command.queue_id] = &queue;
  return {.result = controller->id(), .controller = controller};
}

uint16_t TargetCore::free_id() {
  for (;;) {
    last_id_ = last_id_ >= kControllerIdMax ? uint16_t{1} : static_cast<uint16_t>(last_id_ + 1);
    bool used = std::any_of(controllers_.begin(), controllers_.end(),
                            [this](const auto& c) { return c->id() == last_id_; });
    if (!used) return last_id_;
  }
}

}  // namespace bb::io::nvme
