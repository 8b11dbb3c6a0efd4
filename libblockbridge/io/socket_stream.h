// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/reactor.h"
#include "io/stream.h"

namespace bb::io {

// A connected socket as a stream, which owns `fd`; `peer` is its name in messages.
std::unique_ptr<Stream> make_socket_stream(Reactor& reactor, int fd, std::string peer);

}  // namespace bb::io
