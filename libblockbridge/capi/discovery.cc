// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/uri.h"
#include "capi/handle.h"
#include "io/nvme/discover.h"
#include "io/nvme/host_security.h"

using bb::Code;
using bb::Status;
using bb::io::Task;
using bb::io::nvme::DiscoveryEntry;
using bb::io::nvme::DiscoveryOptions;
using bb::io::nvme::DiscoveryWatch;
namespace capi = bb::capi;

struct bb_discovery {
  bb_runtime* runtime = nullptr;
  bb_discovery_changed changed = nullptr;
  void* arg = nullptr;
  std::unique_ptr<DiscoveryWatch> watch;
};

namespace {

constexpr uint16_t kDiscoveryPort = 8009;

std::string to_json(const std::vector<DiscoveryEntry>& entries) {
  bb::Json all = bb::Json::array();
  for (const DiscoveryEntry& entry : entries) {
    std::string address = bb::io::nvme::address_of(entry);
    all.push_back({{"nqn", entry.subsystem_nqn},
                   {"address", address},
                   {"uri", "nvme-tcp://" + address + "/" + entry.subsystem_nqn}});
  }
  return bb::dump_json(all);
}

Task<Status> start(bb_discovery* discovery, DiscoveryOptions options) {
  bb::io::Context context = discovery->runtime->runtime->context();
  options.host.host_id = bb::Uuid::random(context.loop.prng());
  if (options.host.host_nqn.empty()) {
    options.host.host_nqn = "nqn.2026-11.io.blockbridge:host:" + options.host.host_id.to_string();
  }
  discovery->watch = std::make_unique<DiscoveryWatch>(
      context, std::move(options), [discovery](const std::vector<DiscoveryEntry>& entries) {
        discovery->changed(discovery->arg, to_json(entries).c_str());
      });
  discovery->watch->start();
  co_return Status();
}

Task<Status> stop(bb_discovery* discovery) {
  co_await discovery->watch->stop();
  discovery->watch.reset();
  co_return Status();
}

// Reads the key, on the caller's thread.
bb::Result<DiscoveryOptions> options_of(const bb_discovery_options& given) {
  DiscoveryOptions options;
  BB_ASSIGN(bb::HostPort at, bb::HostPort::parse(given.address));
  if (at.host.empty()) {
    return bb::error(Code::k_invalid_argument, "bb_discovery_start: \"{}\" names no host",
                     given.address);
  }
  if (at.port == 0) at.port = kDiscoveryPort;
  options.addresses = {at.to_string()};
  options.digests = {.header = true, .data = true};
  if (given.host_nqn != nullptr) {
    options.host.host_nqn = given.host_nqn;
    BB_TRY(bb::io::nvme::check_nqn(options.host.host_nqn).with_context("bb_discovery_start"));
  }
  if (given.tls_psk_file != nullptr) {
    if (given.host_nqn == nullptr) {
      return bb::error(Code::k_invalid_argument,
                       "bb_discovery_start: tls_psk_file is a host's: host_nqn is NULL");
    }
    auto security = std::make_shared<bb::io::nvme::HostSecurity>();
    BB_ASSIGN(security->psk, bb::io::nvme::load_psk(given.tls_psk_file));
    options.security = std::move(security);
  }
  return options;
}

}  // namespace

int bb_discovery_start(bb_runtime* runtime, const bb_discovery_options* options,
                       bb_discovery_changed changed, void* arg, bb_discovery** out) {
  if (out == nullptr) return capi::invalid("bb_discovery_start: out is NULL");
  *out = nullptr;
  if (runtime == nullptr || options == nullptr || changed == nullptr) {
    return capi::invalid("bb_discovery_start: an argument is NULL");
  }
  bb_discovery_options given = BB_DISCOVERY_OPTIONS_INIT;
  Status status = capi::take_options("bb_discovery_start", options, &given);
  if (!status.ok()) return capi::code_of(status);
  if (given.address == nullptr) return capi::invalid("bb_discovery_start: address is NULL");
  auto wanted = options_of(given);
  if (!wanted.ok()) return capi::code_of(wanted.status());
  auto handle = std::make_unique<bb_discovery>();
  handle->runtime = runtime;
  handle->changed = changed;
  handle->arg = arg;
  status = capi::call(runtime, [&] { return start(handle.get(), std::move(*wanted)); });
  if (!status.ok()) return capi::code_of(status);
  runtime->children.fetch_add(1);
  *out = handle.release();
  return BB_OK;
}

int bb_discovery_close(bb_discovery** discovery) {
  if (discovery == nullptr || *discovery == nullptr) return BB_OK;
  bb_discovery* handle = *discovery;
  Status blocked = capi::may_block(handle->runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  Status status = capi::call(handle->runtime, [&] { return stop(handle); });
  handle->runtime->children.fetch_sub(1);
  delete handle;
  *discovery = nullptr;
  return capi::code_of(status);
}
