// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

#include "io/sync.h"

namespace bb::program {

// Turns SIGTERM and SIGINT into an event on the loop, so that a daemon drains; SIGPIPE is ignored.
// A second signal ends the process at once. One at a time in a process.
class StopSignals {
 public:
  explicit StopSignals(io::Loop& loop);
  ~StopSignals();  // the old handlers come back
  StopSignals(const StopSignals&) = delete;

  // co_await signals.stop().wait()
  io::Event& stop() { return stop_; }

 private:
  struct Ring final : io::Work {
    io::Event* event = nullptr;
  };
  static void on_signal(int number);

  io::Loop& loop_;
  io::Event stop_;
  Ring ring_;
  struct sigaction old_term_{};
  struct sigaction old_int_{};
  struct sigaction old_pipe_{};
};

}  // namespace bb::program
