// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_options.h"

#include <algorithm>

#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint16_t kDefaultPort = 4420;
constexpr uint16_t kDiscoveryPort = 8009;
constexpr uint64_t kFenceMinNs = kNsPerSecond;

Result<Digests> take_digests(Uri& uri) {
  std::string text = uri.take("digest", "on");
  if (text == "on" || text == "1") return Digests{.header = true, .data = true};
  if (text == "header") return Digests{.header = true, .data = false};
  if (text == "data") return Digests{.header = false, .data = true};
  if (text == "off" || text == "0") return Digests{};
  return error(Code::k_invalid_argument,
               "URI option digest: \"{}\" is none of on, header, data, off", text);
}

// "a:4420,[::1]:4420": each address once.
Status take_addresses(std::string_view list, uint16_t port, std::vector<std::string>& addresses) {
  while (!list.empty()) {
    size_t comma = list.find(',');
    BB_ASSIGN(HostPort at, HostPort::parse(list.substr(0, comma)));
    if (at.host.empty()) {
      return error(Code::k_invalid_argument, "an address without a host");
    }
    if (at.port == 0) at.port = port;
    std::string text = at.to_string();
    if (std::find(addresses.begin(), addresses.end(), text) != addresses.end()) {
      return error(Code::k_invalid_argument, "{} is given twice", text);
    }
    if (addresses.size() == kPathsMax) {
      return error(Code::k_invalid_argument, "more than {} addresses", kPathsMax);
    }
    addresses.push_back(std::move(text));
    if (comma == std::string_view::npos) break;
    list = list.substr(comma + 1);
    if (list.empty()) return error(Code::k_invalid_argument, "nothing behind the last comma");
  }
  return {};
}

Status take_names(const Uri& uri, uint16_t port, NvmeOptions& options) {
  auto bad = [&] {
    return error(Code::k_invalid_argument,
                 "\"{0}:{1}\": expected {0}://host:port/NQN, or several addresses with "
                 "commas between",
                 uri.scheme, uri.rest);
  };
  std::string_view names = uri.rest;
  if (!names.starts_with("//")) return bad();
  names.remove_prefix(2);
  size_t slash = names.find('/');
  if (slash == std::string_view::npos || slash == 0) return bad();
  Status taken = take_addresses(names.substr(0, slash), port, options.addresses);
  if (!taken.ok()) return taken.with_context(bad().text());
  options.association.address = options.addresses.front();
  options.association.subsystem_nqn = names.substr(slash + 1);
  return check_nqn(options.association.subsystem_nqn);
}

Result<PathPolicy> take_policy(Uri& uri) {
  std::string text = uri.take("policy", "round-robin");
  auto policy = path_policy_of(text);
  if (policy) return *policy;
  return error(Code::k_invalid_argument,
               "URI option policy: \"{}\" is none of round-robin, latency, active-passive", text);
}

// There is no way to say "at once": that a lost path writes nothing any more takes time to be true.
Status take_fence(Uri& uri, NvmeOptions& options) {
  std::string text = uri.take("fence", "auto");
  if (text == "auto") return {};
  auto given = parse_duration_ns(text);
  if (!given.ok()) return given.status().with_context("URI option fence");
  uint64_t least_ns = std::max(2 * options.association.keep_alive_ns, kFenceMinNs);
  if (*given < least_ns) {
    return error(Code::k_invalid_argument,
                 "URI option fence: {} ms; it takes two keep alive intervals, or a second, at "
                 "the least: here {} ms",
                 *given / kNsPerMs, least_ns / kNsPerMs);
  }
  options.fence_ns = *given;
  return {};
}

Status take_host(Uri& uri, Prng& prng, HostIdentity& host) {
  std::string id = uri.take("hostid");
  host.host_id = Uuid::random(prng);
  if (!id.empty()) {
    auto parsed = Uuid::parse(id);
    if (!parsed.ok()) return parsed.status().with_context("URI option hostid");
    host.host_id = *parsed;
  }
  host.host_nqn = uri.take("hostnqn");
  if (host.host_nqn.empty()) {
    host.host_nqn = "nqn.2026-11.io.blockbridge:host:" + host.host_id.to_string();
  }
  return check_nqn(host.host_nqn).with_context("URI option hostnqn");
}

Result<NvmeOptions> parse(Uri uri, Prng& prng, uint16_t port) {
  NvmeOptions options;
  AssociationOptions& association = options.association;
  BB_TRY(take_names(uri, port, options));
  BB_TRY(take_host(uri, prng, association.host));
  BB_ASSIGN(association.digests, take_digests(uri));
  BB_ASSIGN(uint64_t nsid, uri.take_u64("nsid", 1, kNsidAll - 1));
  BB_ASSIGN(uint64_t depth, uri.take_u64("queue_depth", 128, 1024));
  BB_ASSIGN(uint64_t queues, uri.take_u64("queues", 1, 64));
  BB_ASSIGN(association.keep_alive_ns, uri.take_duration_ns("keep_alive", 5 * kNsPerSecond));
  BB_ASSIGN(options.io_timeout_ns, uri.take_duration_ns("io_timeout", 30 * kNsPerSecond));
  BB_ASSIGN(options.connect_timeout_ns, uri.take_duration_ns("connect_timeout", 5 * kNsPerSecond));
  BB_ASSIGN(options.wait_ns, uri.take_duration_ns("wait", 0));
  BB_ASSIGN(options.policy, take_policy(uri));
  BB_TRY(take_fence(uri, options));
  BB_ASSIGN(association.security_files, take_security_files(uri));
  BB_TRY(uri.reject_unknown());
  struct Positive {
    std::string_view key;
    uint64_t value;
  };
  for (Positive p : {Positive{"nsid", nsid},
                     {"queue_depth", depth},
                     {"queues", queues},
                     {"io_timeout", options.io_timeout_ns},
                     {"connect_timeout", options.connect_timeout_ns}}) {
    if (p.value == 0)
      return error(Code::k_invalid_argument, "URI option {}: 0 is too small", p.key);
  }
  association.nsid = static_cast<uint32_t>(nsid);
  association.queue_depth = static_cast<uint16_t>(depth);
  association.queues = static_cast<uint16_t>(queues);
  return options;
}

}  // namespace

Result<NvmeOptions> parse_nvme_options(Uri uri, Prng& prng) {
  return parse(std::move(uri), prng, kDefaultPort);
}

Result<NvmeOptions> parse_discovered_options(Uri uri, Prng& prng) {
  BB_ASSIGN(NvmeOptions options, parse(std::move(uri), prng, kDiscoveryPort));
  options.services = std::move(options.addresses);
  options.addresses.clear();
  return options;
}

}  // namespace bb::io::nvme
