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
  if (!channel_fits(queue, *parsed)) return refuse(NvmeStatus::kConnectInvalidHost);
  auto named = subsystems_.find(parsed->subsystem_nqn);
  if (named != subsystems_.end() && named->second->config().home != 0) {
    return {.home = named->second->config().home};
  }
  return command.queue_id == 0 ? connect_admin(queue, command, *parsed, now_ns)
                               : connect_io(queue, command, *parsed);
}

// Who comes by TLS is who its key says, and goes where its key is for. Where keys are given out,
// nobody comes without.
bool TargetCore::channel_fits(const TargetQueue& queue, const ConnectData& data) const {
  if (const auto& identity = queue.tls_identity()) {
    return identity->host_nqn == data.host.host_nqn &&
           identity->subsystem_nqn == data.subsystem_nqn;
  }
  auto found = subsystems_.find(data.subsystem_nqn);
  return found == subsystems_.end() || found->second->config().security.psks.empty();
}

std::optional<PskSecret> TargetCore::find_psk(const PskIdentity& identity) const {
  for (const auto& [nqn, subsystem] : subsystems_) {
    if (nqn != identity.subsystem_nqn && identity.subsystem_nqn != kDiscoveryNqn) continue;
    const auto& psks = subsystem->config().security.psks;
    auto found = psks.find(identity.host_nqn);
    if (found != psks.end() && found->second.suite_hash() == identity.hash) return found->second;
  }
  return std::nullopt;
}

// What the host must go through before anything else; null: nothing.
std::unique_ptr<AuthController> TargetCore::doubt(const Subsystem& subsystem,
                                                  const HostIdentity& host) const {
  const SecurityConfig& security = subsystem.config().security;
  auto secret = security.hosts.find(host.host_nqn);
  if (secret == security.hosts.end()) return nullptr;
  return std::make_unique<AuthController>(AuthController::Options{.policy = security.policy,
                                                                  .host = secret->second,
                                                                  .controller = security.controller,
                                                                  .host_nqn = host.host_nqn,
                                                                  .subsystem_nqn = subsystem.nqn(),
                                                                  .random = random_});
}

// Names are public: whoever only knows one must not use up what those need who can prove it.
bool TargetCore::too_many_strangers() const {
  auto strangers = std::count_if(controllers_.begin(), controllers_.end(), [](const auto& one) {
    return one->queues[0] != nullptr && !one->queues[0]->authenticated();
  });
  return static_cast<size_t>(strangers) >= 1 + limits_.controllers / 4;
}

// Reservations belong to host identifiers, which are public: whoever could come with another's
// would have its reservations, too. So an identifier that is in use, by a controller whose host has
// proved itself or by a registration, is its user's, who is known by his NQN.
bool TargetCore::is_anothers(const Subsystem& subsystem, const HostIdentity& host) const {
  if (host.host_id.is_nil()) return false;  // that of nobody: it reserves nothing
  for (const auto& one : controllers_) {
    bool proved = one->queues[0] != nullptr && one->queues[0]->authenticated();
    bool same = one->subsystem() == &subsystem && one->host().host_id == host.host_id;
    if (proved && same && one->host().host_nqn != host.host_nqn) return true;
  }
  HostTag tag = host_tag(host.host_nqn);
  for (const Namespace* each = subsystem.next(1); each != nullptr;
       each = subsystem.next(each->nsid + 1)) {
    if (each->reservation->state().is_anothers(host.host_id, tag)) return true;
  }
  return false;
}

bool TargetCore::is_anothers(const TargetQueue& queue) const {
  const Controller* controller = queue.controller();
  return !controller->discovery() && is_anothers(*controller->subsystem(), controller->host());
}

// Ends what else the host has here, now that it is known to be the host.
bool TargetCore::take_over(TargetQueue& queue) {
  const Controller* controller = queue.controller();
  if (controller->discovery() || !controller->subsystem()->config().single_association) {
    return true;
  }
  if (replace_association(*controller->subsystem(), controller->host(), queue.local_address(),
                          controller)) {
    return true;
  }
  waiting_.push_back(&queue);
  return false;
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
    if (found == subsystems_.end()) {
      bool later = expects_ && expects_(data.subsystem_nqn);
      if (later) return {.status = NvmeStatus::kConnectControllerBusy};
      return bad_data(kConnectDataSubsystemAt);
    }
    subsystem = found->second;
    ConnectAnswer admitted = admit(*subsystem, data.host);
    if (admitted.status != NvmeStatus::kSuccess) return admitted;
    if (is_anothers(*subsystem, data.host)) return refuse(NvmeStatus::kConnectInvalidHost);
  }
  std::unique_ptr<AuthController> auth;
  if (subsystem != nullptr) auth = doubt(*subsystem, data.host);
  if (subsystem != nullptr && auth == nullptr && subsystem->config().single_association &&
      !replace_association(*subsystem, data.host, queue.local_address(), nullptr)) {
    waiting_.push_back(&queue);
    return {.later = true};
  }
  if (controllers_.size() >= limits_.controllers || (auth != nullptr && too_many_strangers())) {
    return {.status = NvmeStatus::kConnectControllerBusy};
  }
  uint16_t id = free_id();
  controllers_.push_back(std::make_unique<Controller>(
      *this, subsystem, data.host, Controller::Place{id, queue.port(), queue.local_host()},
      command.keep_alive_ms));
  Controller* controller = controllers_.back().get();
  controller->heard(now_ns);
  controller->connected_ns = now_ns;
  controller->local_address = queue.local_address();
  controller->queues.assign(size_t{1} + limits_.io_queues, nullptr);
  controller->queues[0] = &queue;
  uint32_t result = id | (auth != nullptr ? kConnectAuthentication : 0);
  return {.result = result, .controller = controller, .auth = std::move(auth)};
}

// Ends what the host had by this address of ours: another address is another path, with an
// association of its own. False while commands of that are with the device.
bool TargetCore::replace_association(const Subsystem& subsystem, const HostIdentity& host,
                                     const std::string& local_address, const Controller* except) {
  const std::string& nqn = subsystem.nqn();
  end_controllers(
      [&](const Controller& one) {
        return &one != except && one.nqn() == nqn && one.host() == host &&
               one.local_address == local_address;
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
  if (controller->port() != queue.port()) return bad_data(kConnectDataControllerAt);
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
  std::unique_ptr<AuthController> auth = doubt(*controller->subsystem(), data.host);
  if (auth == nullptr) {
    controller->queues[command.queue_id] = &queue;
  } else {
    controller->strangers.push_back(&queue);  // bounded by the connections
  }
  uint32_t result = controller->id() | (auth != nullptr ? kConnectAuthentication : 0);
  return {.result = result, .controller = controller, .auth = std::move(auth)};
}

bool TargetCore::take_place(TargetQueue& queue) {
  Controller& controller = *queue.controller();
  TargetQueue*& place = controller.queues[queue.queue_id()];
  if (place != nullptr) return false;
  place = &queue;
  std::erase(controller.strangers, &queue);
  return true;
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
