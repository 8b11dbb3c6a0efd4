// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_device.h"

#include <algorithm>

#include "base/check.h"

namespace bb::sim {
namespace {

bool overlap(const TinyWrite& a, const TinyWrite& b) {
  return a.offset_bytes < b.offset_bytes + b.bytes.size() &&
         b.offset_bytes < a.offset_bytes + a.bytes.size();
}

TinyWrite write_of(const io::IoRequest& request) {
  TinyWrite write;
  write.offset_bytes = request.offset_bytes;
  write.bytes.resize(request.length_bytes);
  if (request.op == io::IoOp::kWrite) {
    io::iov_gather(request.iov, request.iov_count, 0, write.bytes);
  }
  write.hash = tiny_hash(write.offset_bytes, write.bytes);
  return write;
}

}  // namespace

TinyDevice::TinyDevice(std::string name, TinyImage image) : current_(image), durable_(image) {
  info_.uri = "tiny:" + std::move(name);
  info_.size_bytes = image.size_bytes();
  info_.block_size_bytes = TinyImage::kSectorBytes;
  info_.volatile_cache = true;
}

Status TinyDevice::trouble_status() const {
  return trouble_ == TinyTrouble::kGone ? error(Code::k_unavailable, "{}: not connected", info_.uri)
                                        : error(Code::k_io_error, "{}: it is broken", info_.uri);
}

void TinyDevice::do_submit(io::IoRequest& request) {
  if (trouble_ != TinyTrouble::kNone) {
    request.done(&request, trouble_status());
    return;
  }
  if (!held_) {
    request.done(&request, at_once(request));
    return;
  }
  Pending pending{.number = ++requests_, .request = &request, .covers = completions_};
  bool writes = request.op == io::IoOp::kWrite || request.op == io::IoOp::kWriteZeroes;
  if (writes) pending.write = write_of(request);
  if (!writes) asked_order_ = true;
  pending_.push_back(std::move(pending));
}

Status TinyDevice::at_once(io::IoRequest& request) {
  if (request.op == io::IoOp::kRead) {
    for (uint32_t i = 0; i < request.iov_count; ++i) {
      uint64_t before = io::iov_length_bytes(request.iov, i);
      auto* base = static_cast<std::byte*>(request.iov[i].iov_base);
      current_.read(request.offset_bytes + before, {base, request.iov[i].iov_len});
    }
  } else if (request.op == io::IoOp::kWrite) {
    uint64_t at = request.offset_bytes;
    std::vector<std::byte> bytes(request.length_bytes);
    io::iov_gather(request.iov, request.iov_count, 0, bytes);
    current_.write(at, bytes);
  } else if (request.op == io::IoOp::kWriteZeroes) {
    current_.write_zeroes(request.offset_bytes, request.length_bytes);
  }
  return {};
}

const TinyDevice::Pending* TinyDevice::find(uint64_t number) const {
  auto at = std::ranges::find(pending_, number, &Pending::number);
  return at == pending_.end() ? nullptr : &*at;
}

void TinyDevice::complete(uint64_t number) {
  auto at = std::ranges::find(pending_, number, &Pending::number);
  BB_CHECK(at != pending_.end(), "{}: request {} is not under way", info_.uri, number);
  Pending pending = std::move(*at);
  pending_.erase(at);
  take_effect(pending);
  pending.request->done(pending.request, Status());
}

void TinyDevice::take_effect(Pending& pending) {
  io::IoRequest& request = *pending.request;
  ++completions_;
  if (request.op == io::IoOp::kFlush) return flush(pending.covers);
  if (request.op == io::IoOp::kRead) {
    (void)at_once(request);
    return;
  }
  current_.write(pending.write.offset_bytes, pending.write.bytes);
  pending.write.number = completions_;
  pending.write.durable = request.fua;
  loose_.push_back(std::move(pending.write));
  settle_front();
}

void TinyDevice::flush(uint64_t covers) {
  for (TinyWrite& write : loose_) write.durable = write.durable || write.number <= covers;
  settle_front();
}

// A durable write behind a loose one that it overlaps stays: whichever of the two is there, the
// later one lies over it.
void TinyDevice::settle_front() {
  std::vector<TinyWrite> left;
  for (TinyWrite& write : loose_) {
    bool behind = std::ranges::any_of(left, [&](const auto& one) { return overlap(one, write); });
    if (write.durable && !behind) {
      durable_.write(write.offset_bytes, write.bytes);
    } else {
      left.push_back(std::move(write));
    }
  }
  loose_ = std::move(left);
}

void TinyDevice::fail(TinyTrouble how) {
  if (trouble_ != TinyTrouble::kNone) return;
  trouble_ = how;
  std::vector<Pending> failing = std::move(pending_);
  pending_.clear();
  for (Pending& one : failing) {
    if (!one.write.bytes.empty()) loose_.push_back(std::move(one.write));
  }
  for (TinyWrite& write : loose_) {
    if (write.number == 0) write.number = UINT64_MAX;  // never covered by a flush
  }
  if (how == TinyTrouble::kGone) set_state(io::DeviceState::kUnavailable);
  for (Pending& one : failing) one.request->done(one.request, trouble_status());
}

TinyRemains TinyDevice::remains() const {
  if (!held_) return {.durable = current_, .loose = {}};
  TinyRemains remains{.durable = durable_, .loose = loose_};
  for (const Pending& one : pending_) {
    if (!one.write.bytes.empty()) remains.loose.push_back(one.write);
  }
  return remains;
}

io::Task<Status> TinyDevice::close() {
  BB_CHECK(pending_.empty(), "{}: closed with {} requests under way", info_.uri, pending_.size());
  set_state(io::DeviceState::kClosed);
  co_return Status();
}

}  // namespace bb::sim
