// SPDX-License-Identifier: Apache-2.0
#include "raid/array_core.h"

namespace bb::raid {

RangeHold::RangeHold(ArrayCore& core, uint64_t at_bytes, uint64_t for_bytes, LockMode lock_mode)
    : core_(core), skip_(BB_MUTANT(kNoRangeLock)) {
  offset_bytes = at_bytes;
  length_bytes = for_bytes;
  mode = lock_mode;
  if (core.checked()) {  // what the checksums speak of is written, and read, as a whole
    offset_bytes = round_down(at_bytes, kCheckedBlockBytes);
    length_bytes = round_up(at_bytes + for_bytes, kCheckedBlockBytes) - offset_bytes;
  }
  // Woken through the loop: never on the stack of whoever let go.
  granted = [](RangeTicket* ticket) {
    auto* hold = static_cast<RangeHold*>(ticket);
    hold->core_.loop_.post(hold->wake_);
  };
  wake_.run = [](io::Work* work) { io::Trampoline::run(static_cast<Wake*>(work)->handle); };
}

bool RangeHold::await_ready() { return skip_; }

bool RangeHold::await_suspend(std::coroutine_handle<> caller) {
  wake_.handle = caller;
  return !core_.ranges_.acquire(*this);
}

void RangeHold::unlock() {
  if (held) core_.ranges_.release(*this);
}

}  // namespace bb::raid
