// SPDX-License-Identifier: Apache-2.0
// pure: which hosts must prove who they are to a subsystem, and how
#pragma once

#include <map>
#include <optional>
#include <string>

#include "io/nvme/auth_controller.h"
#include "io/nvme/tls_psk.h"

namespace bb::io::nvme {

// Once one host has a secret (or a key), every host needs one: else another name would be the way
// in.
struct SecurityConfig {
  std::map<std::string, AuthSecret, std::less<>> hosts;  // DH-HMAC-CHAP, by host NQN
  std::optional<AuthSecret> controller;                  // what we prove, to hosts that ask
  AuthPolicy policy;
  std::map<std::string, PskSecret, std::less<>> psks;  // TLS, by host NQN

  bool knows(std::string_view host_nqn) const {
    return (hosts.empty() || hosts.find(host_nqn) != hosts.end()) &&
           (psks.empty() || psks.find(host_nqn) != psks.end());
  }
};

}  // namespace bb::io::nvme
