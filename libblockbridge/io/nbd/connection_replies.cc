// SPDX-License-Identifier: Apache-2.0
// An NBD connection's way out: replies that are ready leave with one send.
#include "io/nbd/connection.h"

namespace bb::io::nbd {

void Connection::succeed(Slot& slot) {
  const Request& request = slot.request;
  slot.error = Errno::kNone;
  bool data = request.command == Command::kRead;
  slot.header_bytes =
      static_cast<uint32_t>(data ? encode_data_header(slot.header, request, agreed_.framing)
                                 : encode_success(slot.header, request, agreed_.framing));
}

void Connection::fail(Slot& slot, Errno error, std::string_view text,
                      std::optional<uint64_t> at_bytes) {
  slot.error = error;
  slot.header_bytes = 0;
  slot.built.clear();
  encode_error(slot.built, slot.request, agreed_.framing, error, text, at_bytes);
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
  meter_.answer(slot.times);
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
  meter_.stamp(server_.context_.loop.batch_ns());
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
      iov_.push_back({.iov_base = slot->built.data(), .iov_len = slot->built.size()});
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
  Loop& loop = server_.context_.loop;
  loop.begin_batch();  // for the time the send took
  while (sent_ != nullptr) {
    Slot* slot = sent_;
    sent_ = slot->link;
    measure(*slot, loop.batch_ns());
    release(*slot);
  }
  meter_.end_batch();
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

}  // namespace bb::io::nbd
