// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "io/context.h"
#include "io/offload.h"
#include "io/reactor.h"
#include "io/tcp.h"

namespace bb::test {

// A reactor with sockets and a helper thread: the real world, for one test.
struct World {
  std::unique_ptr<io::Reactor> reactor = std::move(io::Reactor::create()).value();
  std::unique_ptr<io::Offload> offload = std::make_unique<io::Offload>();
  std::unique_ptr<io::Network> network = io::make_tcp_network(*reactor, offload.get());
  io::Context context{
      .loop = *reactor, .network = *network, .reactor = reactor.get(), .offload = offload.get()};

  template <typename T>
  T run(io::Task<T> task) {
    return reactor->block_on(std::move(task));
  }
};

}  // namespace bb::test
