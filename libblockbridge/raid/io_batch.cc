// SPDX-License-Identifier: Apache-2.0
#include "raid/io_batch.h"

#include <algorithm>

#include "io/trampoline.h"

namespace bb::raid {

IoBatch::Leg& IoBatch::add(uint32_t slot, io::Device* device, io::IoOp op, uint64_t offset_bytes) {
  Leg& leg = legs_.emplace_back();
  leg.batch = this;
  leg.device = device;
  leg.slot = slot;
  leg.op = op;
  leg.offset_bytes = offset_bytes;
  leg.done = on_done;
  return leg;
}

void IoBatch::read(uint32_t slot, io::Device* device, uint64_t offset_bytes, Bytes into) {
  size_t most = device->info().transfer_max_bytes;
  for (size_t at = 0; at < into.size(); at += most) {
    Bytes piece = into.subspan(at, std::min(most, into.size() - at));
    Leg& leg = add(slot, device, io::IoOp::kRead, offset_bytes + at);
    leg.length_bytes = piece.size();
    leg.pieces.push_back({.iov_base = piece.data(), .iov_len = piece.size()});
  }
}

void IoBatch::write(uint32_t slot, io::Device* device, uint64_t offset_bytes, ConstBytes from,
                    bool fua) {
  iovec one{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()};
  writev(slot, device, offset_bytes, {&one, 1}, fua);
}

void IoBatch::writev(uint32_t slot, io::Device* device, uint64_t offset_bytes,
                     std::span<const iovec> from, bool fua) {
  size_t most = device->info().transfer_max_bytes;
  Leg* leg = nullptr;
  for (const iovec& one : from) {
    for (size_t at = 0; at < one.iov_len;) {
      if (leg == nullptr || leg->length_bytes == most) {
        leg = &add(slot, device, io::IoOp::kWrite, offset_bytes);
        leg->fua = fua;
      }
      size_t length = std::min<size_t>(one.iov_len - at, most - leg->length_bytes);
      leg->pieces.push_back(
          {.iov_base = static_cast<std::byte*>(one.iov_base) + at, .iov_len = length});
      leg->length_bytes += length;
      offset_bytes += length;
      at += length;
    }
  }
}

void IoBatch::flush(uint32_t slot, io::Device* device) { add(slot, device, io::IoOp::kFlush, 0); }

void IoBatch::on_done(io::IoRequest* request, Status status) {
  Leg* leg = static_cast<Leg*>(request);
  leg->status = std::move(status);
  IoBatch* batch = leg->batch;
  if (--batch->pending_ == 0 && batch->waiter_) io::Trampoline::run(batch->waiter_);
}

bool IoBatch::await_suspend(std::coroutine_handle<> caller) {
  pending_ = legs_.size() + 1;  // one for ourselves: legs may end within submit()
  for (Leg& leg : legs_) {
    leg.iov = leg.pieces.data();
    leg.iov_count = static_cast<uint32_t>(leg.pieces.size());
    leg.device->submit(leg);
  }
  if (--pending_ == 0) return false;
  waiter_ = caller;
  return true;
}

}  // namespace bb::raid
