// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/initiator_connection.h"

#include <algorithm>

#include "base/units.h"

namespace bb::io::nvme {
namespace {

// Beside long data: what is received here has to be copied.
constexpr size_t kLongDataRoomBytes = 4 * 1024;

}  // namespace

SyncCommand::SyncCommand(Loop& loop) : ended(loop) {
  done = [](HostCommand* command, Status lost) {
    auto* self = static_cast<SyncCommand*>(command);
    self->lost = std::move(lost);
    self->ended.set();
  };
}

void SyncCommand::carry(Bytes data, bool to_target) {
  single = {.iov_base = data.data(), .iov_len = data.size()};
  iov = &single;
  iov_count = 1;
  length_bytes = static_cast<uint32_t>(data.size());
  to_controller = to_target;
}

InitiatorConnection::InitiatorConnection(Loop& loop, std::unique_ptr<Stream> stream,
                                         InitiatorQueue::Options options)
    : loop_(loop),
      stream_(std::move(stream)),
      queue_(options),
      buffer_(kReceiveBytes),
      ready_(loop),
      drained_(loop) {
  send_.connection = receive_.connection = flush_.connection = last_word_.connection = this;
  send_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Op*>(op)->connection->on_sent(std::move(length));
  };
  receive_.done = [](StreamOp* op, Result<size_t> length) {
    static_cast<Op*>(op)->connection->on_received(std::move(length));
  };
  flush_.run = [](Work* work) {
    auto* flush = static_cast<Flush*>(work);
    flush->posted = false;
    flush->connection->pump();
    flush->connection->maybe_drained();
  };
  last_word_.fire = [](Timer* timer) { static_cast<LastWord*>(timer)->connection->end_stream(); };
}

InitiatorConnection::~InitiatorConnection() {
  BB_CHECK(!sending_ && !receiving_ && !flush_.posted, "a connection is destroyed in use");
}

Task<Status> InitiatorConnection::initialize(uint64_t deadline_ns) {
  queue_.start();
  pump();
  arm_receive();
  bool answered = co_await ready_.wait_until(deadline_ns);
  if (!answered) {
    break_off(error(Code::k_timed_out, "{}: no answer to the NVMe/TCP connection request",
                    stream_->peer()));
  }
  co_return broken_ ? why_ : Status();
}

void InitiatorConnection::submit(HostCommand& command) {
  if (broken_) {
    command.done(&command, why_);
    return;
  }
  queue_.submit(command);
  flush_soon();
}

Task<Status> InitiatorConnection::run(SyncCommand* command, uint64_t deadline_ns) {
  submit(*command);
  bool limited = deadline_ns != UINT64_MAX;
  if (!limited) co_await command->ended.wait();
  bool ended = !limited || co_await command->ended.wait_until(deadline_ns);
  if (!ended) {
    break_off(error(Code::k_timed_out, "{}: no answer to command 0x{:02x}", stream_->peer(),
                    command->sqe.opcode));
    co_await command->ended.wait();
  }
  if (!command->lost.ok()) co_return command->lost;
  if (command->digest_error) {
    co_return error(Code::k_corrupt, "{}: a wrong data digest", stream_->peer());
  }
  NvmeStatus status = command->cqe.status;
  if (plain_status(status) == NvmeStatus::kSuccess) co_return Status();
  co_return error(code_of(status), "{}: {}", stream_->peer(), nvme_status_text(status));
}

void InitiatorConnection::break_off(Status why) {
  if (broken_) return;
  broken_ = true;
  why_ = std::move(why);
  if (!terminating_) end_stream();
  ready_.set();
  if (owner_ != nullptr) owner_->on_connection_broken(*this);
  flush_soon();  // the end comes from the loop, never from within a caller
}

// What has no answer yet must not reach the target after the next connection's commands: whatever
// of it is still on this side is dropped.
void InitiatorConnection::end_stream() {
  if (queue_.outstanding() > 0) return stream_->abort();
  stream_->shutdown();
}

// The reason goes out first, unless that takes too long.
void InitiatorConnection::end_with_termination(Status why) {
  terminating_ = true;
  loop_.arm(last_word_, loop_.now_ns() + 100 * kNsPerMs);
  break_off(why.with_context(stream_->peer()));
  pump();
}

Task<void> InitiatorConnection::close() {
  break_off(error(Code::k_cancelled, "{}: the connection was closed", stream_->peer()));
  co_await drained_.wait();
  loop_.disarm(last_word_);
  co_await stream_->close();
}

void InitiatorConnection::flush_soon() {
  if (flush_.posted) return;
  flush_.posted = true;
  loop_.post(flush_);
}

void InitiatorConnection::pump() {
  if (sending_ || (broken_ && !terminating_)) return;
  if (!queue_.fill(batch_)) {
    if (terminating_) stream_->shutdown();
    return;
  }
  sending_ = true;
  send_.iov = batch_.iov();
  send_.iov_count = batch_.iov_count();
  stream_->send(send_);
}

void InitiatorConnection::on_sent(Result<size_t> length) {
  sending_ = false;
  queue_.sent(batch_);
  if (!length.ok()) {
    terminating_ = false;
    break_off(length.status());
    stream_->shutdown();
  } else {
    pump();
  }
  complete();
  maybe_drained();
}

void InitiatorConnection::arm_receive() {
  if (broken_ || receiving_) return;
  direct_ = queue_.direct_target();
  uint32_t count = 0;
  if (!direct_.empty()) {
    receive_iov_[count++] = {.iov_base = direct_.data(), .iov_len = direct_.size()};
  }
  size_t room = queue_.expects_long_data() ? kLongDataRoomBytes : buffer_.size();
  receive_iov_[count++] = {.iov_base = buffer_.data(), .iov_len = room};
  receive_.iov = receive_iov_;
  receive_.iov_count = count;
  receiving_ = true;
  stream_->recv(receive_);
}

Status InitiatorConnection::feed(size_t length) {
  size_t direct = std::min(length, direct_.size());
  if (direct > 0) BB_TRY(queue_.receive(ConstBytes(direct_).first(direct)));
  if (length > direct) BB_TRY(queue_.receive(ConstBytes(buffer_).first(length - direct)));
  return {};
}

void InitiatorConnection::on_received(Result<size_t> length) {
  receiving_ = false;
  if (!length.ok()) {
    break_off(length.status());
  } else if (*length == 0) {
    break_off(error(Code::k_unavailable, "{}: the target closed the connection", peer()));
  } else if (!broken_) {
    Status fed = feed(*length);
    if (queue_.ready() && !ready_.is_set()) ready_.set();
    // The end first: a completed command's owner may well come with the next.
    if (!fed.ok()) end_with_termination(std::move(fed));
    complete();
  }
  arm_receive();
  maybe_drained();
}

void InitiatorConnection::complete() {
  while (HostCommand* command = queue_.take_completed()) command->done(command, Status());
  if (!broken_ && !queue_.nothing_to_send()) flush_soon();
}

void InitiatorConnection::maybe_drained() {
  if (!broken_ || sending_ || receiving_ || flush_.posted || drained_.is_set()) return;
  complete();
  while (HostCommand* command = queue_.take_lost()) command->done(command, why_);
  loop_.disarm(last_word_);
  drained_.set();
}

}  // namespace bb::io::nvme
