// SPDX-License-Identifier: Apache-2.0
#include "common/stop_signals.h"

#include <unistd.h>

#include <atomic>

namespace bb::program {
namespace {

// A signal handler has no other way to find anything.
std::atomic<StopSignals*> active{nullptr};
std::atomic<bool> rung{false};

}  // namespace

StopSignals::StopSignals(io::Loop& loop) : loop_(loop), stop_(loop) {
  ring_.event = &stop_;
  ring_.run = [](io::Work* work) { static_cast<Ring*>(work)->event->set(); };
  StopSignals* before = active.exchange(this);
  BB_CHECK(before == nullptr, "two StopSignals at once");
  rung.store(false);
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, &old_term_);
  sigaction(SIGINT, &action, &old_int_);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, &old_pipe_);
}

StopSignals::~StopSignals() {
  sigaction(SIGTERM, &old_term_, nullptr);
  sigaction(SIGINT, &old_int_, nullptr);
  sigaction(SIGPIPE, &old_pipe_, nullptr);
  active.store(nullptr);
}

// post_remote is an atomic exchange and a write(2): both allowed here.
void StopSignals::on_signal(int number) {
  if (rung.exchange(true)) _exit(128 + number);
  if (StopSignals* self = active.load()) self->loop_.post_remote(self->ring_);
}

}  // namespace bb::program
