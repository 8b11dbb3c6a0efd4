// SPDX-License-Identifier: Apache-2.0
#include "io/queue_meter.h"

namespace bb::io {

bool QueueMeter::end_unlike(IoKind kind, uint64_t bytes, bool ok, const CommandTimes& times,
                            uint64_t now_ns, FlightRecorder& recorder) {
  if (!ok) {
    stats_.failed(kind);
    return true;
  }
  if (recorder.slow(now_ns, now_ns - times.begun_ns)) {
    stats_.succeeded(kind, 1, bytes, times, now_ns);
    return true;
  }
  end_batch();
  alike_ = {.kind = kind, .count = 1, .bytes = bytes, .times = times, .sent_ns = now_ns};
  return false;
}

void QueueMeter::end_batch() {
  if (alike_.count == 0) return;
  stats_.succeeded(alike_.kind, alike_.count, alike_.bytes, alike_.times, alike_.sent_ns);
  alike_ = {};
}

}  // namespace bb::io
