// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/connection.h"

#include <algorithm>

#include "base/log.h"
#include "io/tls_stream.h"

namespace bb::io::nbd {

Connection::Connection(Server& server, std::unique_ptr<Stream> stream, uint64_t id)
    : server_(server),
      stream_(std::move(stream)),
      id_(id),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kReceiveBytes)),
      room_(server.context_.loop),
      idle_(server.context_.loop),
      started_ns_(server.context_.loop.now_ns()),
      meter_(server.limits_.requests_max) {
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
  Status status = arrival_ ? co_await arrive() : co_await haggle();
  if (departure_) co_return;
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
  Handshake handshake(server_.tls_.policy);
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
    if (handshake.state() == Handshake::State::kStartTls) {
      BB_CO_TRY(co_await start_tls());
      handshake.secured();
    }
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
      Export* chosen = server_.find(handshake.chosen());
      agreed_ = handshake.agreed();
      BB_CHECK(chosen != nullptr, "export \"{}\" was offered", handshake.chosen());
      if (chosen->home != 0) {
        co_return co_await depart({.export_name = chosen->info.name,
                                   .agreed = agreed_,
                                   .answer = std::move(out),
                                   .id = id_,
                                   .home = chosen->home});
      }
      co_await choose(chosen);
    }
  }
  co_return Status();
}

Task<void> Connection::choose(Export* chosen) {
  export_ = chosen;
  turn_ = ++export_->turns;
  if (export_->exclusive) co_await server_.take_over(this);
}

// From a stack of our own: then the receive that brought the choice is over.
Task<Status> Connection::depart(Handover handover) {
  co_await server_.context_.loop.yield();
  if (ended_ || draining_) co_return Status();
  ended_ = true;
  handover.received.assign(buffer_.get() + begin_, buffer_.get() + end_);
  departure_.emplace(std::move(handover));
  co_return Status();
}

std::optional<Handover> Connection::take_departure() {
  if (departure_) departure_->stream = std::move(stream_);
  return std::exchange(departure_, std::nullopt);
}

Task<Status> Connection::arrive() {
  Export* chosen = server_.find(arrival_->export_name);
  if (chosen == nullptr) {
    why_ = "the export it had chosen has gone";
    co_return Status();
  }
  agreed_ = arrival_->agreed;
  std::copy(arrival_->received.begin(), arrival_->received.end(), buffer_.get());
  end_ = arrival_->received.size();
  co_await choose(chosen);
  auto sent = co_await stream_->send_all(arrival_->answer);
  arrival_.reset();
  co_return sent.status();
}

// Whatever came behind the option is TLS, or the handshake fails: nothing that was slipped in
// before it can pass for a secured client's word.
Task<Status> Connection::start_tls() {
  if (end_ - begin_ > TlsStream::kBufferBytes) {
    co_return error(Code::k_invalid_argument, "{} bytes behind STARTTLS (limit {})", end_ - begin_,
                    TlsStream::kBufferBytes);
  }
  auto secured =
      std::make_unique<TlsStream>(server_.context_.loop, server_.tls_.context, std::move(stream_),
                                  ConstBytes(buffer_.get() + begin_, end_ - begin_));
  begin_ = end_ = 0;
  TlsStream* stream = secured.get();
  stream_ = std::move(secured);
  co_return co_await stream->handshake(started_ns_ + server_.limits_.handshake_ns_max);
}

void Connection::drop(std::string why) {
  why_ = std::move(why);
  ended_ = true;
  log_warn("nbd connection {} from {}: {} -> dropped", id_, stream_->peer(), why_);
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

void Connection::cut(std::string why) {
  if (!ended_) {
    why_ = std::move(why);
    ended_ = true;  // what has been received but not been parsed is forgotten
    room_.set();
  }
  stream_->abort();  // also of one that has said goodbye and does not read its last replies
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
