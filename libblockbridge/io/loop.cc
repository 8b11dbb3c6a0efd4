// SPDX-License-Identifier: Apache-2.0
#include "io/loop.h"

namespace bb::io {

void TimerQueue::arm(Timer& timer, uint64_t deadline_ns) {
  disarm(timer);
  timer.deadline_ns = deadline_ns;
  timer.sequence = sequence_++;
  timers_.insert(timer);
}

void TimerQueue::disarm(Timer& timer) {
  if (timer.is_linked()) timers_.erase(timers_.iterator_to(timer));
}

std::optional<uint64_t> TimerQueue::next_deadline_ns() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->deadline_ns;
}

Timer* TimerQueue::pop_due(uint64_t now_ns) {
  if (timers_.empty() || timers_.begin()->deadline_ns > now_ns) return nullptr;
  Timer* timer = &*timers_.begin();
  timers_.erase(timers_.begin());
  return timer;
}

}  // namespace bb::io
