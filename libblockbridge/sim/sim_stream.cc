// SPDX-License-Identifier: Apache-2.0
#include "sim/sim_stream.h"

#include <algorithm>

#include "io/device.h"
#include "sim/sim_net.h"

namespace bb::sim {

SimStream::SimStream(SimNet& net, SimConnection& connection, uint32_t side, io::Loop& owner,
                     std::string peer)
    : net_(net),
      connection_(&connection),
      side_(side),
      owner_(owner),
      peer_(std::move(peer)),
      idle_(owner) {
  connection.end[side] = this;
  idle_.set();
  for (Pending* pending : {&receiving_, &sending_}) {
    pending->stream = this;
    pending->run = [](io::Work* work) {
      auto& done = *static_cast<Pending*>(work);
      io::StreamOp* op = done.op;
      Result<size_t> result = std::move(done.result);
      done.busy = false;
      done.posted = false;
      done.op = nullptr;
      SimStream& self = *done.stream;
      if (!self.receiving_.busy && !self.sending_.busy) self.idle_.set();
      op->done(op, std::move(result));
    };
  }
}

SimStream::~SimStream() {
  BB_CHECK(!receiving_.busy && !sending_.busy, "{}: destroyed with I/O pending", peer_);
  if (!shut_) shutdown();
  net_.detach(*connection_, side_);
}

void SimStream::start(Pending& pending, io::StreamOp& op) {
  BB_CHECK(!pending.busy, "{}: two operations of a kind at once", peer_);
  pending.op = &op;
  pending.busy = true;
  pending.posted = false;
  pending.moved = 0;
  idle_.reset();
}

void SimStream::finish(Pending& pending, Result<size_t> result) {
  pending.result = std::move(result);
  pending.posted = true;
  owner_.post(pending);
}

void SimStream::recv(io::StreamOp& op) {
  start(receiving_, op);
  on_arrival();
}

void SimStream::send(io::StreamOp& op) {
  start(sending_, op);
  on_room();
}

void SimStream::on_arrival() {
  Pending& pending = receiving_;
  if (!pending.busy || pending.posted) return;
  if (shut_) return finish(pending, size_t{0});
  if (broken()) return finish(pending, broken_);
  SimPipe& pipe = connection_->pipe[1 - side_];
  size_t wanted = io::iov_length_bytes(pending.op->iov, pending.op->iov_count);
  size_t length = std::min(wanted, pipe.arrived);
  if (length == 0) {
    if (pipe.ended) finish(pending, size_t{0});
    return;
  }
  io::iov_scatter(pending.op->iov, pending.op->iov_count, 0,
                  ConstBytes(pipe.buffer).subspan(pipe.head, length));
  net_.consumed(*connection_, 1 - side_, length);
  finish(pending, length);
}

void SimStream::on_room() {
  Pending& pending = sending_;
  if (!pending.busy || pending.posted) return;
  if (shut_) {
    return finish(pending, error(Code::k_unavailable, "{}: the stream was shut down", peer_));
  }
  if (broken()) return finish(pending, broken_);
  size_t total = io::iov_length_bytes(pending.op->iov, pending.op->iov_count);
  while (pending.moved < total) {
    size_t taken = net_.take(*connection_, side_, *pending.op, pending.moved, total);
    if (taken == 0) return;
    pending.moved += taken;
  }
  finish(pending, total);
}

void SimStream::fail(Status status) {
  if (broken()) return;
  broken_ = std::move(status);
  on_arrival();
  on_room();
}

void SimStream::shutdown() {
  if (shut_) return;
  shut_ = true;
  if (!broken()) net_.end_of_stream(*connection_, side_);
  on_arrival();
  on_room();
}

void SimStream::abort() {
  if (shut_) return;
  shut_ = true;
  bool told = !broken() && net_.drop_unsent(*connection_, side_);
  if (told) net_.end_of_stream(*connection_, side_);
  on_arrival();
  on_room();
}

io::Task<void> SimStream::close() { co_await idle_.wait(); }

}  // namespace bb::sim
