// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "raid/stripe_store.h"

namespace bb::raid {

// Holds a stripe from `co_await` on, until its end.
class StripeStore::Hold : io::RangeTicket {
 public:
  Hold(StripeStore& store, uint64_t stripe, io::LockMode how) : store_(store) {
    offset_bytes = stripe;
    length_bytes = 1;
    mode = how;
    granted = [](RangeTicket* ticket) {
      auto* hold = static_cast<Hold*>(ticket);
      hold->store_.loop_.post(hold->wake_);
    };
    wake_.run = [](io::Work* work) { io::Trampoline::run(static_cast<Wake*>(work)->handle); };
  }
  Hold(const Hold&) = delete;
  ~Hold() {
    if (held) store_.stripes_.release(*this);
  }
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> caller) {
    wake_.handle = caller;
    return !store_.stripes_.acquire(*this);
  }
  void await_resume() const {}

 private:
  struct Wake : io::Work {
    std::coroutine_handle<> handle;
  } wake_;
  StripeStore& store_;
};

}  // namespace bb::raid
