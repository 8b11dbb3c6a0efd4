// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "blockbridge/blockbridge.h"
#include "io/nbd/server.h"
#include "io/nvme/target_security.h"
#include "io/tls_policy.h"

namespace bb::capi {

// What bb_export_options say, checked, with the secrets and certificates that their files hold.
struct ExportRequest {
  std::string listen;
  std::string name;
  io::TlsPolicy tls = io::TlsPolicy::kOff;
  // NVMe/TCP
  std::vector<std::string> allowed_hosts;
  io::nvme::SecurityConfig security;
  // NBD
  io::nbd::ExportOptions nbd;
  std::shared_ptr<io::TlsContext> certificates;
};

// Reads the files, on the caller's thread. INVALID_ARGUMENT says what does not go together.
Status read_export_options(const bb_export_options& options, ExportRequest& into);

}  // namespace bb::capi
