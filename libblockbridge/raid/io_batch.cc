// SPDX-License-Identifier: Apache-2.0
#include "raid/io_batch.h"

#include <algorithm>
#include <vector>

#include "io/trampoline.h"

namespace bb::raid {

IoBatch::~IoBatch() {
  for (size_t i = 0; i < std::min(count_, kFew); ++i) few()[i].~Leg();
}

IoBatch::Leg& IoBatch::add(uint32_t slot, io::Device* device, io::IoOp op, uint64_t offset_bytes) {
  if (count_ >= kFew) more_.push_back(std::make_unique<Leg>());
  Leg* leg = count_ < kFew ? new (few() + count_) Leg : more_.back().get();
  ++count_;
  leg->batch = this;
  leg->device = device;
  leg->slot = slot;
  leg->op = op;
  leg->offset_bytes = offset_bytes;
  leg->done = on_done;
  return *leg;
}

void IoBatch::read(uint32_t slot, io::Device* device, uint64_t offset_bytes, Bytes into) {
  size_t most = device->info().transfer_max_bytes;
  for (size_t at = 0; at < into.size(); at += most) {
    Bytes piece = into.subspan(at, std::min(most, into.size() - at));
    Leg& leg = add(slot, device, io::IoOp::kRead, offset_bytes + at);
    leg.length_bytes = piece.size();
    leg.one = {.iov_base = piece.data(), .iov_len = piece.size()};
    leg.iov_count = 1;
  }
}

void IoBatch::write(uint32_t slot, io::Device* device, uint64_t offset_bytes, ConstBytes from,
                    bool fua) {
  size_t most = device->info().transfer_max_bytes;
  for (size_t at = 0; at < from.size(); at += most) {
    ConstBytes piece = from.subspan(at, std::min(most, from.size() - at));
    Leg& leg = add(slot, device, io::IoOp::kWrite, offset_bytes + at);
    leg.fua = fua;
    leg.length_bytes = piece.size();
    leg.one = {.iov_base = const_cast<std::byte*>(piece.data()), .iov_len = piece.size()};
    leg.iov_count = 1;
  }
}

void IoBatch::writev(uint32_t slot, io::Device* device, uint64_t offset_bytes,
                     std::span<const iovec> from, bool fua) {
  uint64_t length = io::iov_length_bytes(from.data(), static_cast<uint32_t>(from.size()));
  if (length > device->info().transfer_max_bytes) {
    return split(slot, device, offset_bytes, from, fua);
  }
  Leg& leg = add(slot, device, io::IoOp::kWrite, offset_bytes);
  leg.fua = fua;
  leg.length_bytes = length;
  leg.iov = from.data();
  leg.iov_count = static_cast<uint32_t>(from.size());
}

void IoBatch::split(uint32_t slot, io::Device* device, uint64_t offset_bytes,
                    std::span<const iovec> from, bool fua) {
  size_t most = device->info().transfer_max_bytes;
  std::vector<iovec> pieces;
  uint64_t length = 0;
  auto end_leg = [&] {
    if (pieces.empty()) return;
    Leg& leg = add(slot, device, io::IoOp::kWrite, offset_bytes);
    leg.fua = fua;
    leg.length_bytes = length;
    leg.many = std::make_unique<iovec[]>(pieces.size());
    std::ranges::copy(pieces, leg.many.get());
    leg.iov = leg.many.get();
    leg.iov_count = static_cast<uint32_t>(pieces.size());
    offset_bytes += length;
    pieces.clear();
    length = 0;
  };
  for (const iovec& one : from) {
    for (size_t at = 0; at < one.iov_len;) {
      size_t here = std::min<size_t>(one.iov_len - at, most - length);
      pieces.push_back({.iov_base = static_cast<std::byte*>(one.iov_base) + at, .iov_len = here});
      length += here;
      at += here;
      if (length == most) end_leg();
    }
  }
  end_leg();
}

void IoBatch::flush(uint32_t slot, io::Device* device) { add(slot, device, io::IoOp::kFlush, 0); }

void IoBatch::on_done(io::IoRequest* request, Status status) {
  Leg* leg = static_cast<Leg*>(request);
  leg->status = std::move(status);
  IoBatch* batch = leg->batch;
  if (--batch->pending_ == 0 && batch->waiter_) io::Trampoline::run(batch->waiter_);
}

bool IoBatch::await_suspend(std::coroutine_handle<> caller) {
  pending_ = count_ + 1;  // one for ourselves: legs may end within submit()
  for (size_t i = 0; i < count_; ++i) {
    Leg& next = leg(i);
    if (next.iov == nullptr && next.iov_count == 1) next.iov = &next.one;
    next.device->submit(next);
  }
  if (--pending_ == 0) return false;
  waiter_ = caller;
  return true;
}

}  // namespace bb::raid
