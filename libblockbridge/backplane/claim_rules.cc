// SPDX-License-Identifier: Apache-2.0
#include "backplane/claim_rules.h"

#include <algorithm>

namespace bb::backplane {
namespace {

std::string describe_owner(const Claim& claim) {
  std::string text = claim.owner_name.empty()
                         ? claim.owner.to_string()
                         : fmt::format("\"{}\" ({})", claim.owner_name, claim.owner.to_string());
  if (!claim.array.is_nil()) text += fmt::format(" for array \"{}\"", claim.array_name);
  return text;
}

}  // namespace

std::string drive_id(const Uuid& drive) { return "drv-" + drive.to_string(); }
std::string drive_nqn(const Uuid& drive) {
  return "nqn.2026-11.io.blockbridge:drive:" + drive.to_string();
}
std::string host_nqn(const Uuid& host) {
  return "nqn.2026-11.io.blockbridge:host:" + host.to_string();
}

Result<ClaimDecision> decide_claim(const Claim& now, const ClaimRequest& request) {
  if (request.owner.is_nil()) return error(Code::k_invalid_argument, "claim: no owner uuid");
  if (request.host_nqn.empty()) return error(Code::k_invalid_argument, "claim: no host NQN");
  if (request.epoch == 0)
    return error(Code::k_invalid_argument, "claim: epoch 0 (the first one is 1)");
  Claim next{.owned = true,
             .owner = request.owner,
             .owner_name = request.owner_name,
             .host_nqn = request.host_nqn,
             .epoch = request.epoch,
             .array = request.array,
             .array_name = request.array_name};
  DriveLabel probe;
  probe.claim = next;
  BB_TRY(check_label(probe));
  // A host that was connected while the drive was free has no claim to it: it is cut, too.
  if (!now.owned) return ClaimDecision{.next = std::move(next), .changed = true, .fence = true};
  if (now.owner != request.owner)
    return error(Code::k_busy, "the drive is owned by {} since epoch {}", describe_owner(now),
                 now.epoch);
  if (now.array != request.array)
    return error(Code::k_busy, "the drive is in use by array \"{}\" ({})", now.array_name,
                 now.array.to_string());
  if (request.epoch < now.epoch)
    return error(Code::k_fenced,
                 "claim with epoch {}, and the drive has been claimed with epoch {}", request.epoch,
                 now.epoch);
  if (request.epoch == now.epoch) {
    if (request.host_nqn != now.host_nqn)
      return error(Code::k_busy, "epoch {} belongs to host {}; a new host needs a higher epoch",
                   now.epoch, now.host_nqn);
    return ClaimDecision{.next = now};
  }
  return ClaimDecision{.next = std::move(next), .changed = true, .fence = true};
}

Result<ClaimDecision> decide_release(const Claim& now, const ReleaseRequest& request) {
  if (!now.owned) return ClaimDecision{.next = now};
  if (!request.force) {
    if (now.owner != request.owner)
      return error(Code::k_permission_denied,
                   "the drive is owned by {}; only its owner, or a forced release, frees it",
                   describe_owner(now));
    if (now.array != request.array)
      return error(Code::k_permission_denied, "the drive is in use by array \"{}\" ({})",
                   now.array_name, now.array.to_string());
    if (request.epoch < now.epoch)
      return error(Code::k_fenced,
                   "release with epoch {}, and the drive has been claimed with epoch {}",
                   request.epoch, now.epoch);
  }
  return ClaimDecision{.next = Claim{}, .changed = true, .fence = true};
}

HostId encode_host_id(const Uuid& owner, uint64_t epoch) {
  HostId id{};
  std::copy_n(owner.bytes.begin(), 8, id.begin());
  store_be<uint64_t>(&id[8], epoch);
  return id;
}

Status decide_connect(const Claim& now, const std::vector<std::string>& permitted,
                      const ConnectRequest& request) {
  if (!now.owned) {
    if (std::find(permitted.begin(), permitted.end(), request.host_nqn) != permitted.end())
      return ok_status();
    return error(Code::k_permission_denied, "host {} is not permitted, and the drive is free",
                 request.host_nqn);
  }
  if (request.host_nqn != now.host_nqn)
    return error(Code::k_permission_denied, "host {}: the drive is owned by {}, host {}",
                 request.host_nqn, describe_owner(now), now.host_nqn);
  if (!std::equal(now.owner.bytes.begin(), now.owner.bytes.begin() + 8, request.host_id.begin()))
    return error(Code::k_permission_denied, "host {}: its host identifier is not of the owner {}",
                 request.host_nqn, describe_owner(now));
  uint64_t epoch = load_be<uint64_t>(&request.host_id[8]);
  if (epoch < now.epoch)
    return error(Code::k_fenced, "host {} connects with epoch {}, and the claim has epoch {}",
                 request.host_nqn, epoch, now.epoch);
  if (epoch > now.epoch)
    return error(Code::k_permission_denied,
                 "host {} connects with epoch {}, and the claim has only epoch {}",
                 request.host_nqn, epoch, now.epoch);
  return ok_status();
}

}  // namespace bb::backplane
