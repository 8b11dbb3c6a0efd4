// SPDX-License-Identifier: Apache-2.0
#include "raid/array_core.h"

namespace bb::raid {

void FanOut::add(Member& member, const Io& io) {
  BB_CHECK(count_ < kMembersActiveMax, "more than {} legs", kMembersActiveMax);
  Leg& leg = legs_[count_++];
  leg.fan = this;
  leg.member = &member;
  leg.op = io.op;
  leg.offset_bytes = io.offset_bytes;
  leg.length_bytes = io.length_bytes;
  leg.iov = io.iov;
  leg.iov_count = io.iov_count;
  leg.fua = io.fua;
  leg.may_discard = io.may_discard;
  leg.done = on_done;
}

void FanOut::on_done(io::IoRequest* request, Status status) {
  auto* leg = static_cast<Leg*>(request);
  --leg->member->in_flight;
  leg->status = std::move(status);
  FanOut* fan = leg->fan;
  fan->core_.check_leg(*leg);
  if (--fan->pending_ == 0 && fan->waiter_) io::Trampoline::run(fan->waiter_);
}

bool FanOut::await_suspend(std::coroutine_handle<> caller) {
  pending_ = count_ + 1;  // one for ourselves: legs may end within submit()
  for (uint32_t i = 0; i < count_; ++i) {
    ++legs_[i].member->in_flight;
    legs_[i].member->device->submit(legs_[i]);
  }
  if (--pending_ == 0) return false;
  waiter_ = caller;
  return true;
}

RangeHold::RangeHold(ArrayCore& core, uint64_t at_bytes, uint64_t for_bytes, LockMode lock_mode)
    : core_(core), skip_(BB_MUTANT(kNoRangeLock)) {
  offset_bytes = at_bytes;
  length_bytes = for_bytes;
  mode = lock_mode;
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
