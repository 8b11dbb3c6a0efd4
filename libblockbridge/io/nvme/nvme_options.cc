// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"
#include "io/nvme/nvme_device.h"

namespace bb::io::nvme {
namespace {

constexpr uint16_t kDefaultPort = 4420;

Result<Digests> take_digests(Uri& uri) {
  std::string text = uri.take("digest", "on");
  if (text == "on" || text == "1") return Digests{.header = true, .data = true};
  if (text == "header") return Digests{.header = true, .data = false};
  if (text == "data") return Digests{.header = false, .data = true};
  if (text == "off" || text == "0") return Digests{};
  return error(Code::k_invalid_argument,
               "URI option digest: \"{}\" is none of on, header, data, off", text);
}

Status take_names(std::string_view rest, AssociationOptions& options) {
  auto bad = [&] {
    return error(Code::k_invalid_argument, "\"nvme-tcp:{}\": expected nvme-tcp://host:port/NQN",
                 rest);
  };
  if (!rest.starts_with("//")) return bad();
  rest.remove_prefix(2);
  size_t slash = rest.find('/');
  if (slash == std::string_view::npos || slash == 0) return bad();
  BB_ASSIGN(HostPort at, HostPort::parse(rest.substr(0, slash)));
  if (at.host.empty()) return bad();
  if (at.port == 0) at.port = kDefaultPort;
  options.address = at.to_string();
  options.subsystem_nqn = rest.substr(slash + 1);
  return check_nqn(options.subsystem_nqn);
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

}  // namespace

Result<NvmeOptions> parse_nvme_options(Uri uri, Prng& prng) {
  NvmeOptions options;
  AssociationOptions& association = options.association;
  BB_TRY(take_names(uri.rest, association));
  BB_TRY(take_host(uri, prng, association.host));
  BB_ASSIGN(association.digests, take_digests(uri));
  BB_ASSIGN(uint64_t nsid, uri.take_u64("nsid", 1, kNsidAll - 1));
  BB_ASSIGN(uint64_t depth, uri.take_u64("queue_depth", 128, 1024));
  BB_ASSIGN(uint64_t queues, uri.take_u64("queues", 1, 64));
  BB_ASSIGN(association.keep_alive_ns, uri.take_duration_ns("keep_alive", 5 * kNsPerSecond));
  BB_ASSIGN(options.io_timeout_ns, uri.take_duration_ns("io_timeout", 30 * kNsPerSecond));
  BB_ASSIGN(options.connect_timeout_ns, uri.take_duration_ns("connect_timeout", 5 * kNsPerSecond));
  BB_ASSIGN(options.wait_ns, uri.take_duration_ns("wait", 0));
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

}  // namespace bb::io::nvme
