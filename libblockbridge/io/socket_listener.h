// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/reactor.h"
#include "io/socket_address.h"
#include "io/stream.h"

namespace bb::io {

// Binds and listens; `text` is the address as it was asked for. The file of a Unix socket is its
// owner's alone, and goes with the listener.
Result<std::unique_ptr<Listener>> listen_on(Reactor& reactor, const std::string& text);

}  // namespace bb::io
