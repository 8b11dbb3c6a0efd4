// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/histogram.h"

namespace bb::io {

enum class IoKind : uint8_t { kRead, kWrite, kOther };  // other: flush, discard, write zeroes, …
inline constexpr std::array<IoKind, 3> kIoKinds = {IoKind::kRead, IoKind::kWrite, IoKind::kOther};
std::string_view io_kind_name(IoKind kind);  // "read"

// Where the time of a command goes. A server sees three stages, one after the other:
//   receive  from its first bytes until it goes to the device: its data, a buffer for it
//   device   until the device has answered (of several I/Os: the last)
//   send     until the answer has been handed to the socket: those before it, a slow reader
// and their total. A device knows its own total only.
enum class IoStage : uint8_t { kReceive, kDevice, kSend, kTotal };
inline constexpr std::array<IoStage, 4> kIoStages = {IoStage::kReceive, IoStage::kDevice,
                                                     IoStage::kSend, IoStage::kTotal};
std::string_view io_stage_name(IoStage stage);  // "receive"

// When a command passed from stage to stage, in the loop's time.
struct CommandTimes {
  uint64_t begun_ns = 0;      // its first bytes came
  uint64_t submitted_ns = 0;  // it went to the device
  uint64_t answered_ns = 0;   // its answer was there

  bool operator==(const CommandTimes&) const = default;
};

// What a device, a queue or an export did since it began: some 300 bytes, and 4.7 KiB for each kind
// and stage that has seen a command.
struct IoStats {
  struct Kind {
    uint64_t bytes = 0;   // of commands that succeeded
    uint64_t errors = 0;  // commands that failed: in no histogram, failing is often quick
    std::array<Histogram, kIoStages.size()> stages;  // nanoseconds

    const Histogram& stage(IoStage which) const { return stages[static_cast<size_t>(which)]; }
    Histogram& stage(IoStage which) { return stages[static_cast<size_t>(which)]; }
    uint64_t count() const { return stage(IoStage::kTotal).count(); }  // that succeeded
  };

  const Kind& kind(IoKind which) const { return kinds[static_cast<size_t>(which)]; }
  Kind& kind(IoKind which) { return kinds[static_cast<size_t>(which)]; }

  // `count` commands, of `bytes` together.
  void succeeded(IoKind which, uint64_t count, uint64_t bytes, uint64_t total_ns);
  void succeeded(IoKind which, uint64_t count, uint64_t bytes, const CommandTimes& times,
                 uint64_t sent_ns);
  void failed(IoKind which) { ++kind(which).errors; }
  void merge(const IoStats& other);
  IoStats since(const IoStats& before) const;  // see Histogram::since
  uint64_t errors() const;

  std::array<Kind, kIoKinds.size()> kinds;
};

}  // namespace bb::io
