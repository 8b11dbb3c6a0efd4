// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/uri.h"
#include "io/context.h"
#include "io/nvme/auth_host.h"
#include "io/nvme/command.h"
#include "io/nvme/tls_psk.h"

namespace bb::io::nvme {

class InitiatorConnection;

// What a host proves to a controller and asks of it, and the files it is in.
struct HostSecurity {
  std::optional<AuthSecret> host;        // DH-HMAC-CHAP, for controllers that ask
  std::optional<AuthSecret> controller;  // what the controller must prove that it knows
  std::optional<PskSecret> psk;          // TLS; none: in the clear
};

struct SecurityFiles {
  std::string dhchap_secret;
  std::string dhchap_ctrl_secret;
  std::string tls_psk;

  bool any() const {
    return !dhchap_secret.empty() || !dhchap_ctrl_secret.empty() || !tls_psk.empty();
  }
};

// dhchap_secret_file=PATH, dhchap_ctrl_secret_file=PATH, tls=1 and tls_psk_file=PATH of a URI.
// INVALID_ARGUMENT for what does not go together: to ask for encryption without a key is an error,
// never a connection in the clear.
Result<SecurityFiles> take_security_files(Uri& uri);

// Reads them, on the helper thread where there is one. Errors as of read_secret_file and of the
// formats, with the option's name and never the secret. Null when there are none.
Task<Result<std::shared_ptr<const HostSecurity>>> load_security(Context context,
                                                                SecurityFiles files);

// The same for one file, at once: what programs and daemons configure.
Result<AuthSecret> load_auth_secret(const std::string& path);
Result<PskSecret> load_psk(const std::string& path);

// After a Connect on `connection`. `wanted`: its answer asks for authentication. `security` may be
// null. PERMISSION_DENIED: one of the two does not believe the other; BUSY, TIMED_OUT, UNAVAILABLE
// as of any command.
Task<Status> authenticate(Context context, InitiatorConnection* connection, bool wanted,
                          std::shared_ptr<const HostSecurity> security, std::string host_nqn,
                          std::string subsystem_nqn, uint64_t deadline_ns);

// TLS over a fresh connection, if `security` says so; else the connection itself.
Task<Result<std::unique_ptr<Stream>>> secured(Context context, std::unique_ptr<Stream> stream,
                                              std::shared_ptr<const HostSecurity> security,
                                              std::string host_nqn, std::string subsystem_nqn,
                                              uint64_t deadline_ns);

}  // namespace bb::io::nvme
