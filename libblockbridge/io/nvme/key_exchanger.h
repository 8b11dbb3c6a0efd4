// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/context.h"
#include "io/crypto/dh.h"
#include "io/sync.h"

namespace bb::io::nvme {

// Computes the key exchanges of hosts that have yet to say who they are: one at a time, on the
// helper thread, and after each as long a pause as it took. However many strangers connect, at most
// half a core is theirs, and neither the loop nor what else the helper thread does waits for more
// than one of them. In the simulator, which has no other thread, it computes on the spot.
class KeyExchanger {
 public:
  explicit KeyExchanger(Context context) : context_(context), turn_(context.loop, 1) {}

  // `wanted` is asked when its turn has come; not computed when it says no.
  template <typename Wanted>
  Task<void> compute(DhExchange* exchange, const Wanted* wanted) {
    co_await turn_.acquire();
    if ((*wanted)() && context_.loop.now_ns() < not_before_ns_) {
      co_await context_.loop.sleep_until(not_before_ns_);
    }
    if ((*wanted)()) co_await run(exchange);
    turn_.release();
  }

 private:
  Task<void> run(DhExchange* exchange);

  Context context_;
  Semaphore turn_;
  uint64_t not_before_ns_ = 0;
};

}  // namespace bb::io::nvme
