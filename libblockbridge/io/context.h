// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/loop.h"
#include "io/stream.h"

namespace bb::io {

class Offload;
class Reactor;

// The world an object lives in, passed by constructor. In the simulator `reactor` and `offload` are
// null: what needs real files says NOT_SUPPORTED there.
struct Context {
  Loop& loop;
  Network& network;
  Reactor* reactor = nullptr;
  Offload* offload = nullptr;
};

}  // namespace bb::io
