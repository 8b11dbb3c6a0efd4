// SPDX-License-Identifier: Apache-2.0
// pure: times the commands of one server connection
#pragma once

#include <vector>

#include "io/flight_recorder.h"
#include "io/io_stats.h"

namespace bb::io {

// What one connection of a server counts. Each command carries its CommandTimes and passes, in this
// order: begin, submit (several times, or never when it is refused), answer, end. Times are those
// of a batch: whoever drives the connection reads the clock once for what one receive brought, once
// after giving it to the device and once when a send is through, never for a single command.
class QueueMeter {
 public:
  explicit QueueMeter(size_t commands_max) { fresh_.reserve(commands_max); }

  void begin(CommandTimes& times, uint64_t now_ns) { times = {.begun_ns = now_ns}; }
  void submit(CommandTimes& times, uint64_t now_ns) {
    if (times.submitted_ns == 0) times.submitted_ns = now_ns;
  }
  // Its answer is there; when, says the next stamp(). A device that answers within submit() has
  // then had its time: the clock is read after a whole batch was submitted.
  void answer(CommandTimes& times) { fresh_.push_back(&times); }
  void stamp(uint64_t now_ns) {
    for (CommandTimes* times : fresh_) {
      times->answered_ns = now_ns;
      if (times->submitted_ns == 0) times->submitted_ns = now_ns;  // never reached the device
    }
    fresh_.clear();
  }
  // The answer has been handed to the socket. True: worth a record(). Then, after those of a batch,
  // end_batch(): they mostly passed each stage together, and are counted together.
  bool end(IoKind kind, uint64_t bytes, bool ok, const CommandTimes& times, uint64_t now_ns,
           FlightRecorder& recorder) {
    bool alike = ok && kind == alike_.kind && now_ns == alike_.sent_ns && times == alike_.times;
    if (!alike) return end_unlike(kind, bytes, ok, times, now_ns, recorder);
    ++alike_.count;
    alike_.bytes += bytes;
    return false;
  }
  void end_batch();
  // The times of a command that has just ended; the rest of the record is the caller's.
  static FlightRecord record(const CommandTimes& times, uint64_t now_ns) {
    return {.ended_ns = now_ns,
            .receive_ns = times.submitted_ns - times.begun_ns,
            .device_ns = times.answered_ns - times.submitted_ns,
            .send_ns = now_ns - times.answered_ns,
            .total_ns = now_ns - times.begun_ns};
  }

  const IoStats& stats() const { return stats_; }  // between batches

 private:
  bool end_unlike(IoKind kind, uint64_t bytes, bool ok, const CommandTimes& times, uint64_t now_ns,
                  FlightRecorder& recorder);

  struct Alike {  // commands that ended one after the other, with the same times, none slow
    IoKind kind = IoKind::kRead;
    uint64_t count = 0;
    uint64_t bytes = 0;
    CommandTimes times;
    uint64_t sent_ns = 0;
  };
  std::vector<CommandTimes*> fresh_;  // answered since the last stamp()
  Alike alike_;
  IoStats stats_;
};

}  // namespace bb::io
