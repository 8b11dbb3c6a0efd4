// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "io/device.h"
#include "io/reactor.h"
#include "io/sync.h"
#include "io/ublk/mapping.h"
#include "io/ublk/unflushed.h"

namespace bb::io::ublk {

struct QueueStats {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t others = 0;  // flush, discard, write zeroes
  uint64_t failures = 0;
  uint64_t lost_flushes = 0;  // failed because the device may have lost what they covered
};

// Serves the requests of one kernel block device. Each tag has one command with the driver: a
// fetch, which completes when a request of the tag has come, its data (of a write) in the tag's
// buffer; then a commit of the outcome that fetches the next one.
class Queue {
 public:
  struct Shape {
    uint32_t depth = 0;
    uint32_t io_max_bytes = 0;
  };
  // Opens /dev/ublkcN. NOT_FOUND, PERMISSION_DENIED, BUSY (it has a server), NO_SPACE (memory).
  static Result<std::unique_ptr<Queue>> open(Reactor& reactor, Device& device, uint32_t device_id,
                                             Shape shape);
  ~Queue();  // after ended() or abandon()

  void fetch_all();  // once
  // Every command has come back: the driver stopped the device, or refused them.
  Task<void> ended();
  // Keeps the kernel waiting: nothing is committed from here on, and this waits for what the device
  // has in hand. What the kernel may still write to stays behind until the process ends, which is
  // when the driver sees that the server is gone.
  static Task<void> abandon(std::unique_ptr<Queue> queue);

  uint32_t fetching() const { return commands_; }
  const QueueStats& stats() const { return stats_; }

 private:
  struct Tag;
  struct Inner final : IoRequest {
    Tag* tag = nullptr;
  };
  struct Tag final : EngineOp {
    Queue* queue = nullptr;
    uint16_t index = 0;
    Request request;
    uint64_t incarnation = 0;
    iovec iov{};
    Inner inner;
  };

  Queue(Reactor& reactor, Device& device, uint32_t device_id, Shape shape);
  Status map(uint32_t device_id);
  std::byte* buffer_of(uint16_t tag) const { return buffers_ + size_t{tag} * shape_.io_max_bytes; }
  void command(Tag& tag, IoCommandOp op, int32_t result);
  void on_command_done(Tag& tag, int32_t result);
  void start(Tag& tag);
  void on_request_done(Tag& tag, const Status& status);
  Status settle_flush(Tag& tag, const Status& status);
  void count(const Request& request, bool succeeded);

  Reactor& reactor_;
  Device& device_;
  uint32_t device_id_;
  Shape shape_;
  int fd_ = -1;
  const RequestRecord* records_ = nullptr;  // the driver writes them
  size_t records_bytes_ = 0;
  std::byte* buffers_ = nullptr;
  std::vector<Tag> tags_;
  uint32_t commands_ = 0;   // with the driver
  uint32_t in_device_ = 0;  // with the device
  bool abandoned_ = false;
  Unflushed unflushed_;
  Event idle_;  // no command with the driver, or, when abandoned, no request with the device
  QueueStats stats_;
};

}  // namespace bb::io::ublk
