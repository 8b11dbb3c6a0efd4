// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/connection.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/units.h"

namespace bb::io::nbd {
namespace {

constexpr size_t kReceiveBytes = 256 * KiB;
static_assert(kReceiveBytes >= Handshake::kUnitMax);
constexpr size_t kIovMax = 1024;               // of one sendmsg
constexpr uint64_t kZeroPieceBytes = 8 * MiB;  // other requests get their turn in between

// A peer's words in our log: one line, nothing a terminal would obey.
std::string printable(std::string text) {
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace

Connection::Connection(Server& server, std::unique_ptr<Stream> stream, uint64_t id)
    : server_(server),
      stream_(std::move(stream)),
      id_(id),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kReceiveBytes)),
      room_(server.context_.loop),
      idle_(server.context_.loop),
      started_ns_(server.context_.loop.now_ns()) {
  iov_.reserve(kIovMax);
  sender_.connection = this;
  sender_.done = [](StreamOp* op, Result<size_t> result) {
    static_cast<Sender*>(op)->connection->on_sent(result);
  };
  flusher_.connection = this;
  flusher_.run = [](Work* work) {
    Connection* self = static_cast<Flusher*>(work)->connection;
    self->flush_posted_ = false;
    self->flush();
    self->check_idle();
  };
}

Connection::~Connection() {
  BB_CHECK(in_flight_ == 0 && !sending_ && !flush_posted_,
           "an NBD connection was destroyed with {} requests in flight", in_flight_);
}

ConnectionInfo Connection::info() const {
  return {.id = id_,
          .peer = stream_->peer(),
          .export_name = export_ != nullptr ? export_->info.name : "",
          .in_flight = in_flight_,
          .counters = counters_};
}

Task<void> Connection::run() {
  Status status = co_await haggle();
  if (status.ok() && export_ != nullptr) {
    log_info("nbd connection {} from {} -> export \"{}\"", id_, stream_->peer(),
             export_->info.name);
    status = co_await transmit();
  }
  ended_ = true;
  flush();
  check_idle();
  co_await idle_.wait();
  log_info("nbd connection {} ended: {} -> closed after {} reads, {} writes, {} errors", id_,
           printable(!why_.empty() ? why_ : status.to_string()), counters_.reads, counters_.writes,
           counters_.errors);
  co_await stream_->close();
}

// Plain coroutines: the handshake is rare.
Task<Status> Connection::haggle() {
  Handshake handshake;
  std::vector<std::byte> out = Handshake::greeting();
  for (;;) {
    if (!out.empty()) {
      auto sent = co_await stream_->send_all(out);
      if (!sent.ok()) co_return sent.status();
      out.clear();
    }
    if (handshake.state() == Handshake::State::kClosed) {
      why_ = handshake.reason();
      co_return Status();
    }
    if (handshake.state() == Handshake::State::kTransmission) break;
    auto got = co_await receive_more();
    if (!got.ok()) co_return got.status();
    if (*got == 0) {
      why_ = "the client left during the handshake";
      co_return Status();
    }
    std::vector<ExportInfo> offered = server_.offered();
    begin_ += handshake.feed(Bytes(buffer_.get() + begin_, end_ - begin_), offered, out);
    // Bound here, where the list is still true: later the export may have gone.
    if (handshake.state() == Handshake::State::kTransmission) {
      export_ = server_.find(handshake.chosen());
      structured_ = handshake.structured();
      BB_CHECK(export_ != nullptr, "export \"{}\" was offered", handshake.chosen());
    }
  }
  co_return Status();
}

// Into the rest of the present write's payload first, then into the buffer.
Task<Result<size_t>> Connection::receive_more() {
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  iovec into[2];
  uint32_t count = 0;
  size_t direct = 0;
  if (payload_slot_ != nullptr && payload_slot_->buffer != nullptr) {
    Slot& slot = *payload_slot_;
    direct = slot.payload_bytes - slot.received_bytes;
    into[count++] = {.iov_base = slot.buffer + slot.received_bytes, .iov_len = direct};
  }
  into[count++] = {.iov_base = buffer_.get() + end_, .iov_len = kReceiveBytes - end_};
  Stream::Op op(*stream_, false, into, count);
  auto got = co_await op;
  if (!got.ok()) co_return got;
  size_t taken = std::min(*got, direct);
  if (taken > 0) payload_slot_->received_bytes += static_cast<uint32_t>(taken);
  end_ += *got - taken;
  co_return got;
}

Task<Status> Connection::transmit() {
  for (;;) {
    parsing_ = true;
    while (!ended_ && parse_one()) {
    }
    parsing_ = false;
    flush();
    if (ended_) co_return Status();
    if (starved_) {
      co_await room_.wait();
      starved_ = false;
      continue;
    }
    auto got = co_await receive_more();
    if (!got.ok()) {
      broken_ = true;
      co_return got.status();
    }
    if (*got == 0) {
      why_ = draining_ ? "drained" : "the client left without saying so";
      co_return Status();
    }
  }
}

void Connection::drop(std::string why) {
  why_ = std::move(why);
  ended_ = true;
  log_warn("nbd connection {} from {}: {} -> dropped", id_, stream_->peer(), why_);
}

bool Connection::parse_payload() {
  Slot& slot = *payload_slot_;
  size_t length = std::min<size_t>(slot.payload_bytes - slot.received_bytes, end_ - begin_);
  if (length > 0) {
    if (slot.buffer != nullptr) {  // null: refused, the payload is only skipped
      std::memcpy(slot.buffer + slot.received_bytes, buffer_.get() + begin_, length);
    }
    begin_ += length;
    slot.received_bytes += static_cast<uint32_t>(length);
  }
  if (slot.received_bytes < slot.payload_bytes) return false;
  payload_slot_ = nullptr;
  if (slot.buffer == nullptr) {
    reply_ready(slot);
  } else {
    submit_piece(slot);
  }
  return true;
}

bool Connection::parse_one() {
  if (payload_slot_ != nullptr) return parse_payload();
  if (end_ - begin_ < kRequestBytes) return false;
  std::optional<Request> request =
      decode_request(ConstBytes(buffer_.get() + begin_, kRequestBytes));
  if (!request) {
    drop("a request without its magic");
    return false;
  }
  Verdict verdict = judge(export_->info, structured_, *request);
  if (verdict.action == Verdict::Action::kDrop) {
    drop(verdict.reason);
    return false;
  }
  if (verdict.action == Verdict::Action::kDisconnect) {
    why_ = "the client said goodbye";
    ended_ = true;
    return false;
  }
  if (draining_ && verdict.action == Verdict::Action::kServe) {
    verdict = {.action = Verdict::Action::kRefuse,
               .error = Errno::kShutdown,
               .reason = "the export is being removed",
               .payload_bytes = verdict.payload_bytes};
  }
  Slot* slot = admit(*request, verdict);
  if (slot == nullptr) {
    starved_ = true;
    room_.reset();
    return false;
  }
  begin_ += kRequestBytes;
  if (verdict.action == Verdict::Action::kRefuse) finish(*slot, verdict.error, verdict.reason);
  if (verdict.payload_bytes > 0) {
    payload_slot_ = slot;
    payload_started_ns_ = 0;
    return parse_payload();
  }
  if (verdict.action == Verdict::Action::kRefuse) {
    reply_ready(*slot);
  } else {
    submit_piece(*slot);
  }
  return true;
}

// A slot with its buffer, or null when this connection or the server has enough to do.
Connection::Slot* Connection::admit(const Request& request, const Verdict& verdict) {
  const ServerLimits& limits = server_.limits_;
  bool serve = verdict.action == Verdict::Action::kServe;
  bool transfers = request.command == Command::kRead || request.command == Command::kWrite;
  uint32_t need = serve && transfers ? request.length_bytes : 0;
  if (in_flight_ >= limits.requests_max) return nullptr;
  if (in_flight_ > 0 && in_flight_bytes_ + need > limits.request_bytes_max) return nullptr;
  std::byte* buffer = nullptr;
  if (need > 0) {
    buffer = server_.pool_.take(need);
    if (buffer == nullptr) {
      server_.pool_starved_ = true;
      return nullptr;
    }
  }
  Slot* slot = free_;
  if (slot != nullptr) {
    free_ = slot->link;
  } else {
    slots_.push_back(std::make_unique<Slot>());
    slot = slots_.back().get();
    slot->connection = this;
    slot->io.slot = slot;
    slot->io.done = [](IoRequest* io, Status status) {
      Slot& self = *static_cast<Slot::Io*>(io)->slot;
      self.connection->on_piece(self, std::move(status));
    };
    slot->next.slot = slot;
    slot->next.run = [](Work* work) {
      Slot& self = *static_cast<Slot::Continue*>(work)->slot;
      self.connection->submit_piece(self);
    };
  }
  slot->link = nullptr;
  slot->request = request;
  slot->progress_bytes = 0;
  slot->flushing = false;
  slot->error = Errno::kNone;
  slot->buffer = buffer;
  slot->buffer_bytes = need;
  slot->received_bytes = 0;
  slot->payload_bytes = verdict.payload_bytes;
  slot->header_bytes = 0;
  ++in_flight_;
  in_flight_bytes_ += need;
  return slot;
}

// Gives the device the next part of a request, as large as one transfer may be.
void Connection::submit_piece(Slot& slot) {
  Device& device = *export_->device;
  const Request& request = slot.request;
  IoRequest& io = slot.io;
  uint64_t left = request.length_bytes - slot.progress_bytes;
  uint64_t piece = left;
  io.fua = (request.flags & kFua) != 0;
  io.may_discard = false;
  io.iov = nullptr;
  io.iov_count = 0;
  switch (request.command) {
    case Command::kRead:
    case Command::kWrite:
      io.op = request.command == Command::kRead ? IoOp::kRead : IoOp::kWrite;
      io.fua = io.fua && io.op == IoOp::kWrite;
      piece = std::min<uint64_t>(left, device.info().transfer_max_bytes);
      slot.piece = {.iov_base = slot.buffer + slot.progress_bytes, .iov_len = piece};
      io.iov = &slot.piece;
      io.iov_count = 1;
      break;
    case Command::kTrim:
      io.op = slot.flushing ? IoOp::kFlush : IoOp::kDiscard;
      io.fua = false;
      piece = std::min<uint64_t>(left, kZeroPieceBytes);
      break;
    case Command::kWriteZeroes:
      io.op = IoOp::kWriteZeroes;
      io.may_discard = (request.flags & kNoHole) == 0;
      piece = std::min<uint64_t>(left, kZeroPieceBytes);
      break;
    case Command::kFlush:
      io.op = IoOp::kFlush;
      io.fua = false;
      break;
    case Command::kDisconnect:
    case Command::kCache:
    case Command::kBlockStatus:
      BB_CHECK(false, "command {} was judged servable", static_cast<uint16_t>(request.command));
  }
  io.offset_bytes = io.op == IoOp::kFlush ? 0 : request.offset_bytes + slot.progress_bytes;
  io.length_bytes = io.op == IoOp::kFlush ? 0 : piece;
  device.submit(io);
}

void Connection::on_piece(Slot& slot, Status status) {
  if (!status.ok()) {
    if (log_enabled(LogLevel::kDebug)) {
      log_debug("nbd connection {}: {} -> client told", id_, status.to_string());
    }
    finish(slot, errno_of(status.code()), status.text());
    return reply_ready(slot);
  }
  slot.progress_bytes += slot.io.length_bytes;
  bool whole = slot.progress_bytes >= slot.request.length_bytes;
  bool to_flush = whole && !slot.flushing && slot.request.command == Command::kTrim &&
                  (slot.request.flags & kFua) != 0;
  if (!whole || to_flush) {
    slot.flushing = to_flush;
    server_.context_.loop.post(slot.next);  // never from within submit(): others get their turn
    return;
  }
  finish(slot, Errno::kNone, "");
  reply_ready(slot);
}

// Writes the reply's header. A read answers in a chunk when structured replies were agreed.
void Connection::finish(Slot& slot, Errno error, std::string_view text) {
  const Request& request = slot.request;
  slot.error = error;
  slot.error_reply.clear();
  if (structured_ && request.command == Command::kRead) {
    if (error == Errno::kNone) {
      slot.header_bytes = static_cast<uint32_t>(encode_data_chunk(
          slot.header, request.cookie, request.offset_bytes, request.length_bytes));
    } else {
      encode_error_chunk(slot.error_reply, request.cookie, error, text);
      slot.header_bytes = 0;
    }
  } else {
    slot.header_bytes =
        static_cast<uint32_t>(encode_simple_reply(slot.header, request.cookie, error));
  }
}

void Connection::count(const Slot& slot) {
  if (slot.error != Errno::kNone) {
    ++counters_.errors;
  } else if (slot.request.command == Command::kRead) {
    ++counters_.reads;
    counters_.read_bytes += slot.request.length_bytes;
  } else if (slot.request.command == Command::kWrite) {
    ++counters_.writes;
    counters_.written_bytes += slot.request.length_bytes;
  } else {
    ++counters_.others;
  }
}

void Connection::reply_ready(Slot& slot) {
  count(slot);
  slot.link = nullptr;
  if (ready_tail_ != nullptr) {
    ready_tail_->link = &slot;
  } else {
    ready_head_ = &slot;
  }
  ready_tail_ = &slot;
  // While parsing, the parser flushes at its end; otherwise after all that completes in this turn.
  if (parsing_ || sending_ || flush_posted_) return;
  flush_posted_ = true;
  server_.context_.loop.post(flusher_);
}

// Hands all ready replies to one send.
void Connection::flush() {
  if (sending_ || ready_head_ == nullptr) return;
  if (broken_) {
    while (ready_head_ != nullptr) {
      Slot* slot = ready_head_;
      ready_head_ = slot->link;
      release(*slot);
    }
    ready_tail_ = nullptr;
    return;
  }
  iov_.clear();
  sent_ = ready_head_;
  Slot* last = nullptr;
  for (Slot* slot = ready_head_; slot != nullptr && iov_.size() + 2 <= kIovMax; slot = slot->link) {
    last = slot;
    if (slot->header_bytes > 0) {
      iov_.push_back({.iov_base = slot->header, .iov_len = slot->header_bytes});
    } else {
      iov_.push_back({.iov_base = slot->error_reply.data(), .iov_len = slot->error_reply.size()});
    }
    if (slot->request.command == Command::kRead && slot->error == Errno::kNone) {
      iov_.push_back({.iov_base = slot->buffer, .iov_len = slot->request.length_bytes});
    }
  }
  BB_CHECK(last != nullptr, "the first reply does not fit {} iovecs", kIovMax);
  ready_head_ = last->link;
  if (ready_head_ == nullptr) ready_tail_ = nullptr;
  last->link = nullptr;
  sending_ = true;
  send_started_ns_ = 0;
  sender_.iov = iov_.data();
  sender_.iov_count = static_cast<uint32_t>(iov_.size());
  stream_->send(sender_);
}

void Connection::on_sent(const Result<size_t>& result) {
  sending_ = false;
  while (sent_ != nullptr) {
    Slot* slot = sent_;
    sent_ = slot->link;
    release(*slot);
  }
  if (!result.ok()) {
    broken_ = true;
    if (why_.empty()) why_ = result.status().text();
    stream_->shutdown();  // the receiver ends too
  }
  flush();
  check_idle();
}

void Connection::release(Slot& slot) {
  if (slot.buffer != nullptr) {
    server_.pool_.give(slot.buffer, slot.buffer_bytes);
    if (server_.pool_starved_) server_.on_room();
  }
  in_flight_bytes_ -= slot.buffer_bytes;
  slot.buffer = nullptr;
  slot.buffer_bytes = 0;
  slot.link = free_;
  free_ = &slot;
  --in_flight_;
  if (starved_) room_.set();
}

void Connection::check_idle() {
  // The write whose payload will never come is nobody's but ours.
  if (ended_ && payload_slot_ != nullptr) {
    release(*payload_slot_);
    payload_slot_ = nullptr;
  }
  if (in_flight_ > 0 || sending_ || flush_posted_) return;
  if (draining_ && !ended_) stream_->shutdown();
  if (ended_) idle_.set();
}

void Connection::drain() {
  if (draining_) return;
  draining_ = true;
  drain_started_ns_ = server_.context_.loop.now_ns();
  if (export_ == nullptr) {
    stream_->shutdown();
  } else {
    check_idle();
  }
}

// The clocks of a send and of a payload start at the first tick that sees them: no clock is read on
// the way of a request.
void Connection::tick(uint64_t now_ns) {
  const ServerLimits& limits = server_.limits_;
  auto over = [&](uint64_t since_ns, uint64_t limit_ns) {
    return since_ns != 0 && now_ns - since_ns > limit_ns;
  };
  if (sending_ && send_started_ns_ == 0) send_started_ns_ = now_ns;
  if (payload_slot_ != nullptr && payload_started_ns_ == 0) payload_started_ns_ = now_ns;
  const char* why = nullptr;
  if (export_ == nullptr && over(started_ns_, limits.handshake_ns_max)) {
    why = "the handshake takes too long";
  } else if (sending_ && over(send_started_ns_, limits.stall_ns_max)) {
    why = "the client does not read its replies";
  } else if (payload_slot_ != nullptr && over(payload_started_ns_, limits.stall_ns_max)) {
    why = "the client stopped in the middle of a write";
  } else if (draining_ && over(drain_started_ns_, limits.drain_ns_max) &&
             (sending_ || payload_slot_ != nullptr)) {
    why = "the client does not let us finish";
  }
  if (why == nullptr) return;
  why_ = why;
  stream_->shutdown();
}

}  // namespace bb::io::nbd
