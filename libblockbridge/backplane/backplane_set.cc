// SPDX-License-Identifier: Apache-2.0
#include "backplane/backplane_set.h"

#include "base/log.h"

namespace bb::backplane {
namespace {

// Why a drive cannot be taken now; "" when it can. What stands before ": " is what is counted.
std::string refusal_of(const FoundDrive& found, const OwnerIdentity& us) {
  const Claim& claim = found.drive.claim;
  if (!found.online) return fmt::format("disk node offline: {}", found.backplane->detail());
  if (found.drive.state != "online")
    return fmt::format("drive {}: {}", found.drive.state, found.drive.detail);
  if (claim.owned && claim.owner == us.owner)
    return fmt::format("in use by an array: \"{}\"", claim.array_name);
  if (claim.owned) return fmt::format("owned by another: \"{}\"", claim.owner_name);
  return "";
}

}  // namespace

std::string drive_state(const FoundDrive& found, const OwnerIdentity& us) {
  if (!found.online) return "absent";
  if (found.drive.state != "online") return found.drive.state;
  if (!found.drive.claim.owned) return "free";
  return found.drive.claim.owner == us.owner ? "owned" : "foreign";
}

std::string drive_uri(const std::string& address, const Uuid& drive, const OwnerIdentity& us,
                      uint64_t epoch) {
  HostId id = encode_host_id(us.owner, epoch);
  return fmt::format("nvme-tcp://{}/{}?nsid=1&hostnqn={}&hostid={}", address, drive_nqn(drive),
                     us.nqn(), Uuid::from(id).to_string());
}

BackplaneSet::BackplaneSet(io::Context context, const std::vector<BackplaneConfig>& configs)
    : context_(context) {
  for (const BackplaneConfig& config : configs)
    clients_.push_back(std::make_unique<BackplaneClient>(context, config));
}

void BackplaneSet::start() {
  for (auto& client : clients_) client->start();
}

io::Task<void> BackplaneSet::stop() {
  for (auto& client : clients_) co_await client->stop();
}

BackplaneClient* BackplaneSet::find(std::string_view name) const {
  for (const auto& client : clients_)
    if (client->config().name == name) return client.get();
  return nullptr;
}

io::Task<void> BackplaneSet::wait_tried(uint64_t deadline_ns) {
  for (auto& client : clients_) (void)co_await client->tried().wait_until(deadline_ns);
}

io::Task<void> BackplaneSet::refresh_one(BackplaneClient* client) {
  Status status = co_await client->refresh();
  if (!status.ok()) log_debug("{}", status.to_string());
}

io::Task<void> BackplaneSet::refresh_all() {
  io::TaskGroup group(context_.loop);
  for (auto& client : clients_)
    if (client->online()) group.spawn(refresh_one(client.get()));
  co_await group.join();
}

BackplaneClient* BackplaneSet::locate(const Uuid& drive) const {
  BackplaneClient* last = nullptr;
  for (const auto& client : clients_)
    for (const NodeDrive& one : client->report().drives)
      if (one.uuid == drive && (last == nullptr || client->online())) last = client.get();
  return last;
}

BackplaneSet::Inventory BackplaneSet::inventory(const OwnerIdentity& us) const {
  Inventory all;
  for (const auto& client : clients_) {
    const NodeReport& report = client->report();
    for (const NodeDrive& drive : report.drives) {
      FoundDrive found{.backplane = client.get(), .drive = drive, .online = client->online()};
      all.records.push_back({.uuid = drive.uuid,
                             .serial = drive.serial,
                             .model = drive.model,
                             .capacity_bytes = drive.capacity_bytes,
                             .block_size_bytes = drive.block_size_bytes,
                             .slot = drive.slot,
                             .enclosure = report.enclosure,
                             .disk_node = report.name,
                             .domain = report.domain,
                             .refusal = refusal_of(found, us)});
      all.found.push_back(std::move(found));
    }
  }
  return all;
}

}  // namespace bb::backplane
