// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "io/context.h"
#include "io/device.h"
#include "io/nvme/buffer_pool.h"
#include "io/nvme/handover.h"
#include "io/nvme/key_exchanger.h"
#include "io/nvme/target_queue.h"
#include "io/sync.h"
#include "io/tls_stream.h"

namespace bb::io::nvme {

// One connection of a Target: moves bytes between a stream, the queue's state machine and the
// device. One receive fills as many commands as there are; one send carries all answers that are
// ready. Nothing is allocated per I/O.
class TargetConnection final : QueueHost {
 public:
  TargetConnection(Loop& loop, TargetCore& core, BufferPool& pool, KeyExchanger& exchanger,
                   Event& progress, std::unique_ptr<Stream> stream, std::shared_ptr<TlsContext> tls,
                   bool tls_required);

  // Before run(): goes on with a host that another connection gave away.
  void resume(Handover handover);
  Task<void> run();  // until the connection has ended and nothing is in flight any more
  // After run(): the host goes on elsewhere.
  std::optional<Handover> take_departure() { return std::exchange(departure_, std::nullopt); }

  // Ends it soon: no command is submitted any more from this call on.
  void close(const char* why);
  // close() of one of many who never said who they are: a reset, and nothing in the log.
  void turn_away(const char* why);
  void check_handshake(uint64_t now_ns);

  const TargetQueue& queue() const { return queue_; }
  // Has another device than this one some of the namespace's I/O?
  bool works_on_other(const Namespace& of, const Device* device) const;
  void set_port(uint16_t port) { queue_.set_port(port); }
  const std::string& peer() const { return stream_->peer(); }
  // Whom it served, also after its controller has ended; empty before Connect.
  const std::string& nqn() const { return nqn_; }
  const HostIdentity& host() const { return host_; }

 private:
  struct Io : IoRequest {
    TargetConnection* owner = nullptr;
    uint16_t slot = 0;
    Device* device = nullptr;
    iovec one{};
  };
  struct Pump : Work {
    TargetConnection* owner = nullptr;
  };
  struct Send : StreamOp {
    TargetConnection* owner = nullptr;
  };
  struct Alarm : Timer {
    TargetConnection* owner = nullptr;
  };
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };

  std::byte* take_buffer(uint32_t capacity_bytes) override { return pool_.take(capacity_bytes); }
  void give_buffer(std::byte* buffer, uint32_t capacity_bytes) override {
    pool_.give(buffer, capacity_bytes);
  }
  bool lends(const Namespace& of) const override {
    return stream_->sends_at_once() && of.device->lends();
  }
  void give_back(uint16_t slot) override;
  void wake() override { schedule(); }
  void compute(DhExchange& exchange) override { computing_.spawn(run_exchange(&exchange)); }

  void schedule();
  void shut_down();
  void pump();
  void begin_batch();
  void submit(uint16_t slot);
  void flush();
  bool send(const std::vector<iovec>& iov);
  void on_io_done(uint16_t slot, const Status& status);
  void on_sent(const Result<size_t>& sent);
  void note_host();
  Task<void> drain();
  Task<bool> secure();
  void receive_into(size_t bytes);
  void hear(ConstBytes bytes, uint64_t now_ns);
  Task<bool> departed();
  Task<void> run_exchange(DhExchange* exchange);

  Loop& loop_;
  TargetCore& core_;
  BufferPool& pool_;
  KeyExchanger& exchanger_;
  Event& progress_;  // set when a closing connection's I/O has ended
  std::unique_ptr<Stream> stream_;
  std::shared_ptr<TlsContext> tls_;  // null: no TLS here
  bool tls_required_;
  std::unique_ptr<Io[]> ios_;
  TargetQueue queue_;
  std::unique_ptr<std::byte, Free> receive_;
  size_t receive_bytes_ = 0;
  iovec receive_iov_[2];
  std::string nqn_;
  HostIdentity host_;
  std::vector<std::byte> heard_;  // until the first answer: all that the host has said
  std::optional<Handover> departure_;
  uint64_t started_ns_;
  Pump pump_;
  bool pump_posted_ = false;
  bool pumping_ = false;
  bool flushing_ = false;
  bool shut_down_ = false;
  bool turned_away_ = false;
  bool ended_ = false;
  Send send_;
  Alarm alarm_;
  Event idle_;  // no I/O and no send
  TaskGroup computing_;
};

}  // namespace bb::io::nvme
