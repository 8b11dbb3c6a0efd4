// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <memory>
#include <vector>

#include "io/reactor.h"

namespace bb::io {

// A ring beside the reactor's, for the few commands that do not fit its entries: NVMe passthrough
// (128-byte entries, 32-byte completions) and ublk's control commands. The reactor hears of its
// completions by polling the ring's descriptor, which costs it one operation a batch
// (docs/decisions/012). Belongs to the reactor's thread.
//
// An entry is its command's until the command ends. Linux 6.10 to 6.13 read it again when a command
// has to wait in a thread of the kernel (as all do while a controller is reset), long after the
// place in the queue is free: an entry used anew would make that command another one.
class SideRing {
 public:
  struct Op {
    // Must not end the ring: what might is posted to the loop.
    void (*complete)(Op* op, int32_t result) = nullptr;

   private:
    friend class SideRing;
    uint32_t entry = 0;
  };

  // NOT_SUPPORTED when the kernel refuses; the text says what would help.
  static Result<std::unique_ptr<SideRing>> create(Reactor& reactor, uint32_t entries,
                                                  bool wide_completions);
  ~SideRing();  // nothing is in flight

  // A free entry of 128 zeroed bytes, bound to `op`; submitted with all others of this turn of the
  // loop. At most `entries` may be in flight.
  io_uring_sqe* prepare(Op& op);

  // The 80 bytes of an entry that carry a command.
  static void* command_of(io_uring_sqe* sqe) { return reinterpret_cast<std::byte*>(sqe) + 48; }

 private:
  explicit SideRing(Reactor& reactor);
  bool idle() const { return free_.size() == entries_; }
  void submit();
  void listen();
  void reap();

  struct Submission final : Work {
    SideRing* ring = nullptr;
  };
  struct Poll final : EngineOp {
    SideRing* ring = nullptr;
  };

  Reactor& reactor_;
  io_uring ring_{};
  bool made_ = false;
  uint32_t entries_ = 0;
  std::vector<uint32_t> free_;  // entries of no command
  bool submission_posted_ = false;
  bool listening_ = false;
  Submission submission_;
  Poll poll_;
};

}  // namespace bb::io
