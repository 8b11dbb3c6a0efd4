// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/offload.h"
#include "io/reactor.h"
#include "io/stream.h"

namespace bb::io {

// TCP and Unix sockets on the reactor. `offload` looks up names, because that blocks.
std::unique_ptr<Network> make_tcp_network(Reactor& reactor, Offload* offload);

}  // namespace bb::io
