// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/client_connection.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "io/tls_stream.h"

namespace bb::io::nbd {

ClientConnection::ClientConnection(Loop& loop, std::unique_ptr<Stream> stream)
    : loop_(loop), stream_(std::move(stream)), buffer_(kReceiveBytes), drained_(loop) {
  send_.connection = receive_.connection = flush_.connection = this;
  send_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Op*>(op)->connection->on_sent(length);
  };
  receive_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Op*>(op)->connection->on_received(length);
  };
  flush_.run = [](Work* work) {
    auto* flush = static_cast<Flush*>(work);
    flush->posted = false;
    flush->connection->pump();
    flush->connection->maybe_drained();
  };
}

ClientConnection::~ClientConnection() {
  BB_CHECK(!sending_ && !receiving_ && !flush_.posted, "a connection is destroyed in use");
}

Task<Status> ClientConnection::establish(ClientWishes wishes, std::shared_ptr<TlsContext> tls,
                                         uint16_t depth, uint64_t deadline_ns) {
  Limit limit;
  limit.connection = this;
  limit.fire = [](Timer* timer) {
    auto* self = static_cast<Limit*>(timer);
    self->fired = true;
    self->connection->stream_->shutdown();
  };
  loop_.arm(limit, deadline_ns);
  ClientHandshake handshake(std::move(wishes));
  Status status = co_await haggle(&handshake, std::move(tls), deadline_ns);
  loop_.disarm(limit);
  if (limit.fired) {
    status = error(Code::k_timed_out, "the NBD handshake takes too long");
  }
  if (!status.ok()) {
    break_off(status.with_context(stream_->peer()));
    co_return why_;
  }
  remote_ = handshake.result();
  queue_.emplace(ClientQueue::Options{
      .framing = remote_.framing, .depth = depth, .context_id = remote_.context_id});
  arm_receive();
  co_return Status();
}

// Plain coroutines: the handshake is rare.
Task<Status> ClientConnection::haggle(ClientHandshake* handshake, std::shared_ptr<TlsContext> tls,
                                      uint64_t deadline_ns) {
  std::vector<std::byte> out;
  size_t end = 0;
  bool secured = false;  // just now: the client speaks first
  for (;;) {
    if (!secured) {
      auto got = co_await stream_->recv_some(Bytes(buffer_).subspan(end));
      if (!got.ok()) co_return got.status();
      if (*got == 0) co_return error(Code::k_unavailable, "the server closed the connection");
      end += *got;
    }
    secured = false;
    size_t used = handshake->feed(ConstBytes(buffer_).first(end), out);
    std::memmove(buffer_.data(), buffer_.data() + used, end - used);
    end -= used;
    if (!out.empty()) {
      auto sent = co_await stream_->send_all(out);
      out.clear();
      if (!sent.ok() && handshake->state() != ClientHandshake::State::kFailed) {
        co_return sent.status();
      }
    }
    switch (handshake->state()) {
      case ClientHandshake::State::kHaggling:
        continue;
      case ClientHandshake::State::kStartTls:
        if (end > 0) co_return error(Code::k_io_error, "the server does not wait for TLS");
        BB_CO_TRY(co_await start_tls(tls, deadline_ns));
        handshake->secured(out);
        secured = true;
        continue;
      case ClientHandshake::State::kFailed:
        co_return handshake->why();
      case ClientHandshake::State::kTransmission:
        if (end == 0) co_return Status();
        co_return error(Code::k_io_error, "the server sent {} bytes that nobody asked for", end);
    }
  }
}

Task<Status> ClientConnection::start_tls(std::shared_ptr<TlsContext> tls, uint64_t deadline_ns) {
  auto over = std::make_unique<TlsStream>(loop_, std::move(tls), std::move(stream_));
  TlsStream* stream = over.get();
  stream_ = std::move(over);
  co_return co_await stream->handshake(deadline_ns);
}

void ClientConnection::submit(ClientCommand& command) {
  if (broken_) {
    command.done(&command, why_);
    return;
  }
  queue_->submit(command);
  flush_soon();
}

// What has no answer yet must not reach the server after the next connection's commands: whatever
// of it is still on this side is dropped.
void ClientConnection::break_off(Status why) {
  if (broken_) return;
  broken_ = true;
  why_ = std::move(why);
  if (queue_ && queue_->outstanding() > 0) {
    stream_->abort();
  } else {
    stream_->shutdown();
  }
  if (owner_ != nullptr) owner_->on_connection_broken(*this);
  flush_soon();  // the end comes from the loop, never from within a caller
}

void ClientConnection::check_deadlines(uint64_t now_ns) {
  if (broken_) return;
  ClientCommand* command = queue_->earliest_deadline();
  if (command == nullptr || command->deadline_ns > now_ns) return;
  break_off(error(Code::k_timed_out, "{}: no answer to command {} in time -> connection reset",
                  stream_->peer(), static_cast<uint16_t>(command->request.command)));
}

Task<void> ClientConnection::close() {
  if (!broken_ && queue_ && queue_->outstanding() == 0 && !sending_) {
    std::byte goodbye[kExtendedRequestBytes];
    size_t length = encode_request({.command = Command::kDisconnect}, goodbye, remote_.framing);
    sending_ = true;  // nobody else may
    auto sent = co_await stream_->send_all(ConstBytes(goodbye, length));
    sending_ = false;
    (void)sent;  // it ends either way
    flush_soon();
  }
  break_off(error(Code::k_cancelled, "{}: the connection was closed", stream_->peer()));
  co_await drained_.wait();
  co_await stream_->close();
}

void ClientConnection::flush_soon() {
  if (flush_.posted) return;
  flush_.posted = true;
  loop_.post(flush_);
}

void ClientConnection::pump() {
  if (sending_ || broken_ || !queue_->fill(batch_)) return;
  sending_ = true;
  send_.iov = batch_.iov();
  send_.iov_count = batch_.iov_count();
  stream_->send(send_);
}

void ClientConnection::on_sent(const Result<size_t>& length) {
  sending_ = false;
  queue_->sent(batch_);
  if (!length.ok()) {
    break_off(length.status());
  } else {
    pump();
  }
  complete();
  maybe_drained();
}

void ClientConnection::arm_receive() {
  if (broken_ || receiving_) return;
  direct_ = queue_->direct_target();
  uint32_t count = 0;
  if (!direct_.empty()) {
    receive_iov_[count++] = {.iov_base = direct_.data(), .iov_len = direct_.size()};
  }
  receive_iov_[count++] = {.iov_base = buffer_.data(), .iov_len = buffer_.size()};
  receive_.iov = receive_iov_;
  receive_.iov_count = count;
  receiving_ = true;
  stream_->recv(receive_);
}

Status ClientConnection::feed(size_t length) {
  size_t direct = std::min(length, direct_.size());
  if (direct > 0) BB_TRY(queue_->receive(ConstBytes(direct_).first(direct)));
  if (length > direct) BB_TRY(queue_->receive(ConstBytes(buffer_).first(length - direct)));
  return {};
}

void ClientConnection::on_received(const Result<size_t>& length) {
  receiving_ = false;
  if (!length.ok()) {
    break_off(length.status());
  } else if (*length == 0) {
    break_off(error(Code::k_unavailable, "{}: the server closed the connection", peer()));
  } else if (!broken_) {
    Status fed = feed(*length);
    // The end first: a completed command's owner may well come with the next.
    if (!fed.ok()) break_off(fed.with_context(peer()));
    complete();
  }
  arm_receive();
  maybe_drained();
}

void ClientConnection::complete() {
  while (ClientCommand* command = queue_->take_completed()) command->done(command, Status());
  if (!broken_ && !queue_->nothing_to_send()) flush_soon();
}

void ClientConnection::maybe_drained() {
  if (!broken_ || sending_ || receiving_ || flush_.posted || drained_.is_set()) return;
  if (queue_) {
    complete();
    while (ClientCommand* command = queue_->take_lost()) command->done(command, why_);
  }
  drained_.set();
}

}  // namespace bb::io::nbd
