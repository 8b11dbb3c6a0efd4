// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "io/rpc/json_rpc.h"
#include "io/stream.h"
#include "io/sync.h"

namespace bb::io::rpc {

// Lines over a stream, for both ends of the control channel: one reader, a queue and a task that
// sends, so that a peer that does not read never holds up whoever writes.
class LineChannel {
 public:
  LineChannel(Loop& loop, std::unique_ptr<Stream> stream);

  // Nothing at the end of the stream. One caller at a time.
  Task<Result<std::optional<std::string>>> next_line();

  // Queues a line (with its \n); false when it cannot be sent any more.
  bool push(std::string line);
  uint64_t queued_bytes() const { return queued_bytes_; }
  const std::string& peer() const { return stream_->peer(); }
  bool broken() const { return broken_; }

  void finish();                     // shut down once what is queued has been sent
  void shutdown();                   // at once
  Event& ended() { return ended_; }  // set once nothing more can be sent
  Task<void> close();                // shutdown, then wait; before destruction

 private:
  Task<void> send_queued();

  std::unique_ptr<Stream> stream_;
  LineSplitter splitter_;
  std::array<std::byte, 4096> input_;
  std::deque<std::string> queue_;
  uint64_t queued_bytes_ = 0;
  bool finishing_ = false;
  bool broken_ = false;
  Event work_;
  Event ended_;
  TaskGroup group_;
};

}  // namespace bb::io::rpc
