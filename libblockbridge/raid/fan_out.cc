// SPDX-License-Identifier: Apache-2.0
#include "raid/fan_out.h"

#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

FanOut::~FanOut() { clear(); }

void FanOut::clear() {
  for (uint32_t i = 0; i < std::min(count_, kFew); ++i) few()[i].~Leg();
  more_.clear();
  count_ = 0;
}

void FanOut::add(Member& member, const Io& io) {
  if (count_ < kFew) {
    new (few() + count_) Leg;
  } else {
    more_.push_back(std::make_unique<Leg>());
  }
  Leg& next = leg(count_++);
  next.fan = this;
  next.member = &member;
  next.op = io.op;
  next.offset_bytes = io.offset_bytes;
  next.length_bytes = io.length_bytes;
  next.iov = io.iov;
  next.iov_count = io.iov_count;
  next.fua = io.fua;
  next.may_discard = io.may_discard;
  next.done = on_done;
}

void FanOut::add_like(Member& member, const io::IoRequest& like, uint64_t offset_bytes) {
  add(member, {.op = like.op,
               .offset_bytes = offset_bytes,
               .length_bytes = like.length_bytes,
               .iov = like.iov,
               .iov_count = like.iov_count,
               .fua = like.fua,
               .may_discard = like.may_discard});
}

void FanOut::on_done(io::IoRequest* request, Status status) {
  auto* leg = static_cast<Leg*>(request);
  --leg->member->in_flight;
  leg->status = std::move(status);
  FanOut* fan = leg->fan;
  fan->core_.check_leg(*leg);
  if (--fan->pending_ != 0) return;
  if (fan->ended_ != nullptr) {
    fan->ended_(fan);
  } else if (fan->waiter_) {
    io::Trampoline::run(fan->waiter_);
  }
}

bool FanOut::submit_all() {
  pending_ = count_ + 1;  // one for ourselves: legs may end within submit()
  for (uint32_t i = 0; i < count_; ++i) {
    Leg& next = leg(i);
    ++next.member->in_flight;
    next.member->device->submit(next);
  }
  return --pending_ == 0;
}

bool FanOut::await_suspend(std::coroutine_handle<> caller) {
  if (submit_all()) return false;
  waiter_ = caller;
  return true;
}

void FanOut::start(Ended ended) {
  ended_ = ended;
  if (submit_all()) ended(this);
}

void MemberRuns::add(Member& member, uint64_t place_bytes, uint64_t length_bytes,
                     std::span<const iovec> memory) {
  auto last = runs_.rbegin();
  while (last != runs_.rend() && last->member != &member) ++last;
  bool goes_on = last != runs_.rend() && last->place_bytes + last->length_bytes == place_bytes;
  if (!goes_on) {
    runs_.push_back({.member = &member, .place_bytes = place_bytes});
    last = runs_.rbegin();
  }
  last->length_bytes += length_bytes;
  last->memory.insert(last->memory.end(), memory.begin(), memory.end());
}

void MemberRuns::add_to(FanOut& fan, const io::IoRequest& like, uint64_t data_offset_bytes) const {
  for (const Run& run : runs_) {
    fan.add(*run.member, {.op = like.op,
                          .offset_bytes = data_offset_bytes + run.place_bytes,
                          .length_bytes = run.length_bytes,
                          .iov = run.memory.data(),
                          .iov_count = static_cast<uint32_t>(run.memory.size()),
                          .fua = like.fua,
                          .may_discard = like.may_discard});
  }
}

}  // namespace bb::raid
