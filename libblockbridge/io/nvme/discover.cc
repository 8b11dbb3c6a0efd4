// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/discover.h"

#include <algorithm>

#include "io/nvme/association.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kRecordsMax = 4096;
constexpr uint32_t kChunkBytes = 64 * 1024;

Task<Result<std::vector<DiscoveryEntry>>> read_log(Association* association, uint64_t deadline_ns) {
  auto header = co_await association->get_log_page(
      LogId::kDiscovery, 0, static_cast<uint32_t>(kDiscoveryEntryBytes), deadline_ns);
  if (!header.ok()) co_return header.status();
  BB_CO_ASSIGN(DiscoveryLog first, decode_discovery_log(*header));
  if (first.record_count > kRecordsMax) {
    co_return error(Code::k_not_supported, "{} discovery records, at most {} are read",
                    first.record_count, kRecordsMax);
  }
  uint64_t total = (first.record_count + 1) * kDiscoveryEntryBytes;
  std::vector<std::byte> all;
  while (all.size() < total) {
    auto length = static_cast<uint32_t>(std::min<uint64_t>(kChunkBytes, total - all.size()));
    auto part =
        co_await association->get_log_page(LogId::kDiscovery, all.size(), length, deadline_ns);
    if (!part.ok()) co_return part.status();
    all.insert(all.end(), part->begin(), part->end());
  }
  BB_CO_ASSIGN(DiscoveryLog log, decode_discovery_log(all));
  co_return std::move(log.entries);
}

}  // namespace

Task<Result<std::vector<DiscoveryEntry>>> discover(Context context, std::string address,
                                                   std::string host_nqn, Digests digests,
                                                   uint64_t timeout_ns) {
  AssociationOptions options{
      .address = address,
      .subsystem_nqn = std::string(kDiscoveryNqn),
      .host = {.host_nqn = host_nqn, .host_id = Uuid::random(context.loop.prng())},
      .digests = digests};
  uint64_t deadline_ns = context.loop.now_ns() + timeout_ns;
  Association association(context, options, nullptr);
  Result<std::vector<DiscoveryEntry>> entries = std::vector<DiscoveryEntry>();
  Status status = co_await association.establish_admin(deadline_ns);
  if (status.ok()) {
    entries = co_await read_log(&association, deadline_ns);
  } else {
    entries = status;
  }
  co_await association.close();
  if (!entries.ok()) co_return entries.status().with_context("discover " + address);
  co_return entries;
}

}  // namespace bb::io::nvme
