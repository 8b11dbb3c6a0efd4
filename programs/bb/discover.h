// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "common/control.h"

namespace bb::program {

struct DiscoverOptions {
  std::string service;  // host:port of an NVMe/TCP discovery service
  std::string host_nqn;
  std::string tls_psk;  // file with the host's key: by TLS or not at all
  bool digests = true;
  bool watch = false;  // goes on until SIGINT or SIGTERM, and tells every change
  uint64_t timeout_ms = 5000;
};

// Lists what a discovery service tells this host; the exit status.
int discover_targets(const char* program, const ControlOptions& control,
                     const DiscoverOptions& options);

}  // namespace bb::program
