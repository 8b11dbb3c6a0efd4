// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_subsystem.h"

#include <algorithm>
#include <bit>

#include "io/nvme/ana.h"
#include "io/nvme/target_core.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kTransferMinBytes = 8192;  // the least that MDTS can say

}  // namespace

Counters& Counters::operator+=(const Counters& more) {
  reads += more.reads;
  writes += more.writes;
  read_bytes += more.read_bytes;
  written_bytes += more.written_bytes;
  errors += more.errors;
  digest_errors += more.digest_errors;
  return *this;
}

Status check_geometry(const Geometry& geometry) {
  bool blocks = geometry.block_bytes == 512 || geometry.block_bytes == 4096;
  if (geometry.block_count > 0 && blocks && geometry.transfer_max_bytes >= kTransferMinBytes) {
    return {};
  }
  return error(Code::k_invalid_argument,
               "{} blocks of {} bytes with transfers of {}: needed are blocks of 512 or 4096 bytes "
               "and transfers of at least {}",
               geometry.block_count, geometry.block_bytes, geometry.transfer_max_bytes,
               kTransferMinBytes);
}

bool Subsystem::allows(const std::string& host_nqn) const {
  if (!config_.security.knows(host_nqn)) return false;
  const auto& allowed = config_.allowed_hosts;
  return allowed.empty() || std::find(allowed.begin(), allowed.end(), host_nqn) != allowed.end();
}

Result<uint32_t> Subsystem::add(NamespaceConfig config, TargetCore& core) {
  const TargetLimits& limits = core.limits();
  uint32_t nsid = config.nsid;
  if (nsid == 0) {
    for (nsid = 1; find(nsid) != nullptr;) ++nsid;
  }
  auto bad = [&](Code code, std::string_view why) {
    return error(code, "subsystem {}: namespace {}: {}", nqn(), nsid, why);
  };
  if (nsid > limits.namespaces) {
    return bad(Code::k_no_space, fmt::format("{} is the limit", limits.namespaces));
  }
  if (find(nsid) != nullptr) return bad(Code::k_already_exists, "is there already");
  if (config.ana_group == 0 || config.ana_group > kAnaGroupMax) {
    return bad(Code::k_invalid_argument,
               fmt::format("ANA group {}, there are 1 to {}", config.ana_group, kAnaGroupMax));
  }
  Status status = check_geometry(config.geometry);
  if (!status.ok()) return bad(status.code(), status.text());
  if (config.geometry.transfer_max_bytes < transfer_max_bytes_) {
    return bad(Code::k_invalid_argument,
               fmt::format("its device takes transfers of {} bytes, and hosts have been told {}",
                           config.geometry.transfer_max_bytes, transfer_max_bytes_));
  }
  NamespaceRef added(new Namespace);
  added->nsid = nsid;
  added->uuid = config.uuid;
  added->device = config.device;
  added->read_only = config.read_only;
  added->geometry = config.geometry;
  added->reservation_store = config.reservation_store;
  added->reservation = std::make_unique<NamespaceReservation>(
      core, *added, config.reservation_store != nullptr, std::move(config.reservation));
  added->ana_group = config.ana_group;
  added->write_through =
      transfer_max_bytes_ != 0 && config.geometry.volatile_cache && !volatile_cache_;
  if (namespaces_.size() < nsid) namespaces_.resize(nsid);
  namespaces_[nsid - 1] = std::move(added);
  return nsid;
}

void Subsystem::settle(const TargetLimits& limits) {
  uint32_t least = limits.transfer_bytes;
  volatile_cache_ = namespaces_.empty();  // unknown: better a flush too many
  for (Namespace* each = next(1); each != nullptr; each = next(each->nsid + 1)) {
    least = std::min(least, each->geometry.transfer_max_bytes);
    volatile_cache_ = volatile_cache_ || each->geometry.volatile_cache;
  }
  transfer_max_bytes_ = std::bit_floor(least);
}

NamespaceRef Subsystem::remove(uint32_t nsid) {
  if (find(nsid) == nullptr) return nullptr;
  NamespaceRef removed = std::move(namespaces_[nsid - 1]);
  removed->removed = true;
  removed_counters_ += removed->counters;
  while (!namespaces_.empty() && namespaces_.back() == nullptr) namespaces_.pop_back();
  return removed;
}

Namespace* Subsystem::next(uint32_t nsid) const {
  for (; nsid <= namespaces_.size(); ++nsid) {
    if (Namespace* found = find(nsid)) return found;
  }
  return nullptr;
}

std::vector<uint32_t> Subsystem::nsids() const {
  std::vector<uint32_t> all;
  for (Namespace* each = next(1); each != nullptr; each = next(each->nsid + 1)) {
    all.push_back(each->nsid);
  }
  return all;
}

bool Subsystem::discards() const {
  return std::any_of(namespaces_.begin(), namespaces_.end(), [](const NamespaceRef& one) {
    return one != nullptr && one->geometry.discard;
  });
}

Counters Subsystem::counters() const {
  Counters total = removed_counters_;
  for (Namespace* each = next(1); each != nullptr; each = next(each->nsid + 1)) {
    total += each->counters;
  }
  return total;
}

}  // namespace bb::io::nvme
