// SPDX-License-Identifier: Apache-2.0
#include "bb/discover.h"

#include <nlohmann/json.hpp>

#include "base/uri.h"
#include "common/failure.h"
#include "common/output.h"
#include "common/stop_signals.h"
#include "io/nvme/discover.h"
#include "io/nvme/host_security.h"
#include "io/runtime.h"

namespace bb::program {
namespace {

constexpr uint16_t kDiscoveryPort = 8009;

Json rows_of(const std::vector<io::nvme::DiscoveryEntry>& entries) {
  Json rows = Json::array();
  for (const io::nvme::DiscoveryEntry& entry : entries) {
    std::string address = io::nvme::address_of(entry);
    rows.push_back({{"nqn", entry.subsystem_nqn},
                    {"address", address},
                    {"uri", "nvme-tcp://" + address + "/" + entry.subsystem_nqn}});
  }
  return rows;
}

io::Task<Status> follow(io::Context context, const char* program, const ControlOptions* control,
                        const DiscoverOptions* options, StopSignals* signals, int* status) {
  io::nvme::DiscoveryOptions wanted{.timeout_ns = options->timeout_ms * 1'000'000};
  BB_CO_ASSIGN(HostPort at, HostPort::parse(options->service));
  if (at.host.empty()) co_return error(Code::k_invalid_argument, "no host to ask");
  if (at.port == 0) at.port = kDiscoveryPort;
  wanted.addresses = {at.to_string()};
  wanted.host.host_id = Uuid::random(context.loop.prng());
  wanted.host.host_nqn = options->host_nqn.empty()
                             ? "nqn.2026-11.io.blockbridge:host:" + wanted.host.host_id.to_string()
                             : options->host_nqn;
  BB_CO_TRY(io::nvme::check_nqn(wanted.host.host_nqn).with_context("--host-nqn"));
  if (!options->tls_psk.empty()) {
    if (options->host_nqn.empty()) {
      co_return error(Code::k_invalid_argument, "--tls-psk is a host's key: give its --host-nqn");
    }
    auto psk = io::nvme::load_psk(options->tls_psk);
    if (!psk.ok()) co_return psk.status().with_context("--tls-psk");
    wanted.security =
        std::make_shared<io::nvme::HostSecurity>(io::nvme::HostSecurity{.psk = std::move(*psk)});
  }
  wanted.digests = {.header = options->digests, .data = options->digests};
  io::Event told(context.loop);
  io::nvme::DiscoveryWatch watch(
      context, std::move(wanted), [&told, status, program, control](const auto& entries) {
        Json rows = rows_of(entries);
        *status = show(program, *control, rows,
                       render_table(rows, {{"NQN", "nqn", Shown::Kind::kText, 1},
                                           {"Address", "address", Shown::Kind::kText, 2},
                                           {"URI", "uri"}}));
        std::fflush(stdout);
        told.set();
      });
  watch.start();
  uint64_t until_ns = context.loop.now_ns() + options->timeout_ms * 1'000'000;
  bool in_time = co_await told.wait_until(until_ns);
  if (in_time && options->watch) co_await signals->stop().wait();
  Status why = watch.why();
  co_await watch.stop();
  if (in_time) co_return Status();
  co_return why.ok()
      ? error(Code::k_timed_out, "{}: no answer in {} ms", options->service, options->timeout_ms)
      : why;
}

}  // namespace

int discover_targets(const char* program, const ControlOptions& control,
                     const DiscoverOptions& options) {
  auto runtime = io::Runtime::create(false);
  if (!runtime.ok()) return fail(program, runtime.status());
  StopSignals signals((*runtime)->reactor());
  int shown = 0;
  Status status = (*runtime)->reactor().block_on(
      follow((*runtime)->context(), program, &control, &options, &signals, &shown));
  return status.ok() ? shown : fail(program, status, "is it an NVMe/TCP discovery service?");
}

}  // namespace bb::program
