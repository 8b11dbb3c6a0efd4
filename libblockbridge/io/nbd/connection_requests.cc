// SPDX-License-Identifier: Apache-2.0
// An NBD connection's way in: receiving, parsing, and handing requests to the device.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/units.h"
#include "io/nbd/connection.h"

namespace bb::io::nbd {
namespace {

constexpr uint64_t kZeroPieceBytes = 8 * MiB;  // other requests get their turn in between
constexpr uint64_t kCacheBytes = 1 * MiB;

}  // namespace

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
    server_.context_.loop.begin_batch();  // what the device did meanwhile was its time
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
    start(slot);
  }
  return true;
}

bool Connection::parse_one() {
  if (payload_slot_ != nullptr) return parse_payload();
  size_t length = request_bytes(agreed_.framing);
  if (end_ - begin_ < length) return false;
  std::optional<Request> request =
      decode_request(ConstBytes(buffer_.get() + begin_, length), agreed_.framing);
  if (!request) {
    drop("a request without its magic");
    return false;
  }
  Verdict verdict = judge(export_->info, agreed_, *request);
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
  begin_ += length;
  if (verdict.action == Verdict::Action::kRefuse) fail(*slot, verdict.error, verdict.reason);
  if (verdict.payload_bytes > 0) {
    payload_slot_ = slot;
    payload_started_ns_ = 0;
    return parse_payload();
  }
  if (verdict.action == Verdict::Action::kRefuse) {
    reply_ready(*slot);
  } else {
    start(*slot);
  }
  return true;
}

// What a request needs to hold: its data, or for CACHE a place to read to.
uint32_t Connection::buffer_need(const Request& request) const {
  switch (request.command) {
    case Command::kRead:
    case Command::kWrite:
      return static_cast<uint32_t>(request.length_bytes);
    case Command::kCache: {
      uint64_t piece = std::min<uint64_t>(export_->device->info().transfer_max_bytes, kCacheBytes);
      return static_cast<uint32_t>(std::min(request.length_bytes, piece));
    }
    case Command::kDisconnect:
    case Command::kFlush:
    case Command::kTrim:
    case Command::kWriteZeroes:
    case Command::kBlockStatus:
      return 0;
  }
  return 0;
}

// A slot with its buffer, or null when this connection or the server has enough to do.
Connection::Slot* Connection::admit(const Request& request, const Verdict& verdict) {
  const ServerLimits& limits = server_.limits_;
  bool serve = verdict.action == Verdict::Action::kServe;
  uint32_t need = serve ? buffer_need(request) : 0;
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
  meter_.begin(slot->times, server_.context_.loop.batch_ns());
  ++in_flight_;
  in_flight_bytes_ += need;
  return slot;
}

void Connection::start(Slot& slot) {
  meter_.submit(slot.times, server_.context_.loop.batch_ns());
  if (slot.request.command == Command::kBlockStatus) {
    server_.tasks_.spawn(answer_block_status(&slot));
  } else {
    submit_piece(slot);
  }
}

// Rare beside reads and writes: a coroutine.
Task<void> Connection::answer_block_status(Slot* slot) {
  const Request& request = slot->request;
  uint32_t limit = (request.flags & kReqOne) != 0 ? 1 : kExtentsMax;
  auto found = co_await export_->device->extents(request.offset_bytes, request.length_bytes, limit);
  if (found.ok()) {
    std::vector<BlockState> states;
    for (const Extent& each : *found) {
      states.push_back({.length_bytes = each.length_bytes, .hole = each.hole, .zero = each.zero});
    }
    slot->error = Errno::kNone;
    slot->header_bytes = 0;
    slot->built.clear();
    encode_block_status(slot->built, request, agreed_.framing, states);
  } else {
    fail(*slot, errno_of(found.code()), found.status().text());
  }
  reply_ready(*slot);
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
  io.fast_only = false;
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
      io.fast_only = (request.flags & kFastZero) != 0;
      piece = std::min<uint64_t>(left, kZeroPieceBytes);
      break;
    case Command::kFlush:
      io.op = IoOp::kFlush;
      io.fua = false;
      break;
    case Command::kCache:  // a read for the sake of the device's cache
      io.op = IoOp::kRead;
      io.fua = false;
      piece = std::min<uint64_t>(left, slot.buffer_bytes);
      slot.piece = {.iov_base = slot.buffer, .iov_len = piece};
      io.iov = &slot.piece;
      io.iov_count = 1;
      break;
    case Command::kDisconnect:
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
    std::optional<uint64_t> at_bytes;
    if (slot.io.op != IoOp::kFlush) at_bytes = slot.io.offset_bytes;
    fail(slot, errno_of(status.code()), status.text(), at_bytes);
    return reply_ready(slot);
  }
  slot.progress_bytes += slot.io.length_bytes;
  bool whole = slot.progress_bytes >= slot.request.length_bytes;
  bool to_flush = whole && !slot.flushing && slot.request.command == Command::kTrim &&
                  (slot.request.flags & kFua) != 0;
  // A terabyte of zeroes must not hold up the end.
  bool endless = slot.request.length_bytes - slot.progress_bytes > kPayloadMax;
  if (!whole && endless && (ended_ || draining_)) {
    fail(slot, Errno::kShutdown, "the connection is ending", slot.io.offset_bytes);
    return reply_ready(slot);
  }
  if (!whole || to_flush) {
    slot.flushing = to_flush;
    server_.context_.loop.post(slot.next);  // never from within submit(): others get their turn
    return;
  }
  succeed(slot);
  reply_ready(slot);
}

}  // namespace bb::io::nbd
