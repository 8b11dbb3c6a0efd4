// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "io/nbd/handshake.h"
#include "io/nbd/server.h"
#include "io/queue_meter.h"

namespace bb::io::nbd {

// One client. A coroutine receives: many requests from one receive, each given to the device at
// once. Completions collect replies; one vectored send takes all that are ready. Requests live in
// slots that are reused, their data in pooled buffers: no I/O allocates.
class Connection {
 public:
  Connection(Server& server, std::unique_ptr<Stream> stream, uint64_t id);
  ~Connection();

  // Before run(): goes on with a client that another connection gave away.
  void resume(Handover handover) { arrival_.emplace(std::move(handover)); }
  Task<void> run();  // handshake, transmission, the rest of the replies, close
  // After run(): the client goes on elsewhere.
  std::optional<Handover> take_departure();

  void drain();                // no new requests; ends when those in flight are answered
  void tick(uint64_t now_ns);  // ends a client that stalls
  void cut(std::string why);   // what is at the device ends, all else never happens
  uint64_t turn() const { return turn_; }
  void on_room() { room_.set(); }
  const Export* chosen() const { return export_; }
  bool ended() const { return ended_; }
  bool haggles() const { return export_ == nullptr && !ended_; }
  ConnectionInfo info() const;
  const IoStats& stats() const { return meter_.stats(); }

 private:
  static constexpr size_t kReceiveBytes = 256 * 1024;
  static_assert(kReceiveBytes >= Handshake::kUnitMax);
  static constexpr size_t kIovMax = 1024;  // of one sendmsg

  struct Slot {
    struct Io final : IoRequest {
      Slot* slot = nullptr;
    };
    struct Continue final : Work {
      Slot* slot = nullptr;
    };
    Connection* connection = nullptr;
    Slot* link = nullptr;  // free list, ready list or list being sent
    Request request;
    CommandTimes times;
    uint64_t progress_bytes = 0;  // of the request, done by the device
    bool flushing = false;        // a trim with FUA, second half
    Errno error = Errno::kNone;
    std::byte* buffer = nullptr;
    uint32_t buffer_bytes = 0;
    uint32_t received_bytes = 0;  // of the payload
    uint32_t payload_bytes = 0;
    std::byte header[kReplyHeaderMax];
    uint32_t header_bytes = 0;
    std::vector<std::byte> built;  // instead of the header: errors with a text, block states
    Io io;
    Continue next;
    iovec piece{};
  };
  struct Sender final : StreamOp {
    Connection* connection = nullptr;
  };
  struct Flusher final : Work {
    Connection* connection = nullptr;
  };

  Task<Status> haggle();
  Task<void> choose(Export* chosen);
  Task<Status> depart(Handover handover);
  Task<Status> arrive();
  Task<Status> start_tls();
  Task<Status> transmit();
  Task<Result<size_t>> receive_more();

  // Parsing: true when something was taken from the buffer.
  bool parse_one();
  bool parse_payload();
  uint32_t buffer_need(const Request& request) const;
  Slot* admit(const Request& request, const Verdict& verdict);
  void drop(std::string why);

  // One request at the device.
  void start(Slot& slot);
  void submit_piece(Slot& slot);
  void on_piece(Slot& slot, Status status);
  Task<void> answer_block_status(Slot* slot);

  // The outcome of a request: its reply's header, or the whole of it.
  void succeed(Slot& slot);
  void fail(Slot& slot, Errno error, std::string_view text,
            std::optional<uint64_t> at_bytes = std::nullopt);
  void count(const Slot& slot);
  void measure(const Slot& slot, uint64_t now_ns);

  // Replies.
  void reply_ready(Slot& slot);
  void flush();
  void on_sent(const Result<size_t>& result);
  void release(Slot& slot);
  void check_idle();

  Server& server_;
  std::unique_ptr<Stream> stream_;
  uint64_t id_;
  Export* export_ = nullptr;
  Agreed agreed_;
  std::optional<Handover> arrival_;
  std::optional<Handover> departure_;
  uint64_t turn_ = 0;  // among those who chose the same export

  std::unique_ptr<std::byte[]> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  Slot* payload_slot_ = nullptr;  // the write whose payload is arriving

  std::vector<std::unique_ptr<Slot>> slots_;
  Slot* free_ = nullptr;
  uint32_t in_flight_ = 0;        // slots not free
  uint64_t in_flight_bytes_ = 0;  // their buffers
  bool starved_ = false;          // the receiver waits for a slot or a buffer
  Event room_;

  Slot* ready_head_ = nullptr;
  Slot* ready_tail_ = nullptr;
  Slot* sent_ = nullptr;  // in the send under way
  std::vector<iovec> iov_;
  Sender sender_;
  Flusher flusher_;
  bool sending_ = false;
  bool flush_posted_ = false;
  bool parsing_ = false;

  bool draining_ = false;
  bool ended_ = false;   // no more requests: disconnect, end of stream or an error
  bool broken_ = false;  // replies can no longer be sent
  std::string why_;
  Event idle_;

  uint64_t started_ns_;
  uint64_t send_started_ns_ = 0;
  uint64_t payload_started_ns_ = 0;
  uint64_t drain_started_ns_ = 0;
  ConnectionCounters counters_;
  QueueMeter meter_;
};

}  // namespace bb::io::nbd
