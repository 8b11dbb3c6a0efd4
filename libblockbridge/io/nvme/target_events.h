// SPDX-License-Identifier: Apache-2.0
// pure: the asynchronous events of one controller
#pragma once

#include <array>
#include <cstdint>

#include "io/nvme/command.h"

namespace bb::io::nvme {

enum class EventKind : uint8_t { kNamespaceChanged, kAnaChanged, kDiscoveryChanged, kReservation };

// NVMe base 2.0, 5.2: an event is told once and then masked until its log page has been read. Only
// the last of each kind is kept: the log page tells the rest.
class ControllerEvents {
 public:
  void enable(uint32_t config) { enabled_ = config; }  // feature 0Bh
  uint32_t enabled() const { return enabled_; }
  void raise(EventKind kind) { of(kind).pending = true; }
  // The host has read the log page: what is pending it knows, and the next may be told.
  void on_log_page_read(EventKind kind) { of(kind) = {}; }
  // One that may be told now, as the completion's dword 0; masks it.
  bool take(uint32_t* event);
  void reset() { *this = {}; }

 private:
  struct State {
    bool pending = false;
    bool masked = false;
  };
  State& of(EventKind kind) { return states_[static_cast<size_t>(kind)]; }

  uint32_t enabled_ = 0;
  std::array<State, 4> states_;
};

}  // namespace bb::io::nvme
