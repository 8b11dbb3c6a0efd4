// SPDX-License-Identifier: Apache-2.0
#include "io/device.h"

#include <algorithm>
#include <cstring>

#include "io/device_meter.h"

namespace bb::io {

std::string_view io_op_name(IoOp op) {
  switch (op) {
    case IoOp::kRead:
      return "read";
    case IoOp::kWrite:
      return "write";
    case IoOp::kFlush:
      return "flush";
    case IoOp::kDiscard:
      return "discard";
    case IoOp::kWriteZeroes:
      return "write zeroes";
  }
  return "?";
}

std::string Device::check_range(uint64_t offset_bytes, uint64_t length_bytes) const {
  uint64_t block = info_.block_size_bytes;
  if (offset_bytes % block != 0 || length_bytes % block != 0) {
    return fmt::format("not a multiple of the block size of {}", block);
  }
  if (length_bytes == 0) return "no length";
  if (offset_bytes > info_.size_bytes || length_bytes > info_.size_bytes - offset_bytes) {
    return fmt::format("beyond the end of the device at {}", info_.size_bytes);
  }
  return "";
}

Device::Device() = default;
Device::~Device() = default;

void Device::measure(const Loop& loop) {
  if (meter_ == nullptr) meter_ = std::make_unique<DeviceMeter>(*this, loop);
}

Status Device::check(const IoRequest& request) const {
  auto bad = [&](Code code, std::string_view why) {
    return error(code, "{}: {} of {} bytes at {}: {}", info_.uri, io_op_name(request.op),
                 request.length_bytes, request.offset_bytes, why);
  };
  if (state_ == DeviceState::kClosed) return bad(Code::k_bad_state, "the device is closed");
  bool changes = request.op != IoOp::kRead && request.op != IoOp::kFlush;
  if (changes && info_.read_only) return bad(Code::k_permission_denied, "the device is read-only");
  if (request.op == IoOp::kFlush) return {};
  std::string why = check_range(request.offset_bytes, request.length_bytes);
  if (!why.empty()) return bad(Code::k_invalid_argument, why);
  if (request.fast_only && request.op == IoOp::kWriteZeroes && !info_.fast_zero) {
    return bad(Code::k_not_supported, "zeroing is not faster than writing");
  }
  if (request.may_lend && (request.op != IoOp::kRead || !lends())) {
    return bad(Code::k_not_supported, "the device lends no memory for that");
  }
  if (request.op == IoOp::kRead || request.op == IoOp::kWrite) {
    if (request.length_bytes > info_.transfer_max_bytes) {
      return bad(Code::k_invalid_argument,
                 fmt::format("larger than one transfer, {} bytes", info_.transfer_max_bytes));
    }
    if (request.may_lend) return {};
    uint64_t held = iov_length_bytes(request.iov, request.iov_count);
    if (held != request.length_bytes) {
      return bad(Code::k_invalid_argument, fmt::format("the buffers hold {} bytes", held));
    }
  }
  return {};
}

void Device::submit(IoRequest& request) {
  Status status = check(request);
  if (!status.ok()) {
    request.done(&request, std::move(status));
    return;
  }
  if (meter_ != nullptr) meter_->begin(request);
  do_submit(request);
}

void Device::do_give_back(IoRequest& request) {
  BB_CHECK(false, "{}: {} bytes are given back that were never lent", info_.uri,
           request.length_bytes);
}

Task<Result<std::vector<Extent>>> Device::extents(uint64_t offset_bytes, uint64_t length_bytes,
                                                  uint32_t limit) {
  std::string why = check_range(offset_bytes, length_bytes);
  if (limit == 0) why = "no extent asked for";
  if (!why.empty() || state_ == DeviceState::kClosed) {
    co_return error(why.empty() ? Code::k_bad_state : Code::k_invalid_argument,
                    "{}: extents of {} bytes at {}: {}", info_.uri, length_bytes, offset_bytes,
                    why.empty() ? "the device is closed" : why);
  }
  auto found = co_await do_extents(offset_bytes, length_bytes, limit);
  if (!found.ok()) co_return found.status();
  uint64_t left = length_bytes;
  std::vector<Extent> list;
  for (const Extent& each : *found) {
    if (left == 0 || list.size() == limit) break;
    list.push_back(each);
    list.back().length_bytes = std::min(each.length_bytes, left);
    left -= list.back().length_bytes;
  }
  BB_CHECK(!list.empty() && list.front().length_bytes > 0, "{}: no extent at {}", info_.uri,
           offset_bytes);
  co_return list;
}

Task<Result<std::vector<Extent>>> Device::do_extents(uint64_t, uint64_t length_bytes, uint32_t) {
  co_return std::vector<Extent>{{.length_bytes = length_bytes}};
}

void append_extent(std::vector<Extent>& list, Extent extent) {
  if (extent.length_bytes == 0) return;
  bool alike = !list.empty() && list.back().hole == extent.hole && list.back().zero == extent.zero;
  if (alike) {
    list.back().length_bytes += extent.length_bytes;
  } else {
    list.push_back(extent);
  }
}

void Device::set_state(DeviceState state) {
  if (state_ == state) return;
  state_ = state;
  // One told may unwatch itself or another, or change the state again: no iterator is kept, and
  // whoever is told later is told what is so by then.
  Watchers untold;
  untold.swap(watchers_);
  while (!untold.empty()) {
    DeviceWatcher& watcher = untold.front();
    untold.pop_front();
    watchers_.push_back(watcher);
    watcher.on_device_state(*this, state_);
  }
}

bool Device::Io::await_suspend(std::coroutine_handle<> caller) {
  if (op == IoOp::kRead || op == IoOp::kWrite) {
    if (iov == nullptr) iov = &single;  // set here: the awaitable has its final address by now
  }
  done = [](IoRequest* request, Status result) {
    auto* self = static_cast<Io*>(request);
    self->status = std::move(result);
    if (self->waiter) {
      Trampoline::run(self->waiter);
    } else {
      self->completed = true;  // within submit(): await_suspend returns false
    }
  };
  device.submit(*this);
  if (completed) return false;
  waiter = caller;
  return true;
}

Device::Io Device::read(uint64_t offset_bytes, Bytes into) {
  return Io(*this, IoOp::kRead, {offset_bytes, into.size()},
            iovec{.iov_base = into.data(), .iov_len = into.size()}, false);
}

Device::Io Device::write(uint64_t offset_bytes, ConstBytes from, bool fua) {
  return Io(*this, IoOp::kWrite, {offset_bytes, from.size()},
            iovec{.iov_base = const_cast<std::byte*>(from.data()), .iov_len = from.size()}, fua);
}

Device::Io Device::readv(uint64_t offset_bytes, const iovec* iov, uint32_t iov_count,
                         uint64_t length_bytes) {
  return Io(*this, IoOp::kRead, {offset_bytes, length_bytes}, iov, iov_count, false);
}

Device::Io Device::writev(uint64_t offset_bytes, const iovec* iov, uint32_t iov_count,
                          uint64_t length_bytes, bool fua) {
  return Io(*this, IoOp::kWrite, {offset_bytes, length_bytes}, iov, iov_count, fua);
}

Device::Io Device::flush() { return Io(*this, IoOp::kFlush, {}); }

Device::Io Device::discard(uint64_t offset_bytes, uint64_t length_bytes) {
  return Io(*this, IoOp::kDiscard, {offset_bytes, length_bytes});
}

Device::Io Device::write_zeroes(uint64_t offset_bytes, uint64_t length_bytes, bool fua) {
  return Io(*this, IoOp::kWriteZeroes, {offset_bytes, length_bytes}, fua);
}

uint64_t iov_length_bytes(const iovec* iov, uint32_t iov_count) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < iov_count; ++i) total += iov[i].iov_len;
  return total;
}

void iov_fill_zero(const iovec* iov, uint32_t iov_count) {
  for (uint32_t i = 0; i < iov_count; ++i) std::memset(iov[i].iov_base, 0, iov[i].iov_len);
}

void iov_gather(const iovec* iov, uint32_t iov_count, uint64_t skip_bytes, Bytes into) {
  for (uint32_t i = 0; i < iov_count && !into.empty(); ++i) {
    uint64_t skip = std::min<uint64_t>(skip_bytes, iov[i].iov_len);
    skip_bytes -= skip;
    size_t length = std::min<size_t>(iov[i].iov_len - skip, into.size());
    std::memcpy(into.data(), static_cast<const std::byte*>(iov[i].iov_base) + skip, length);
    into = into.subspan(length);
  }
  BB_CHECK(into.empty(), "the iovecs are {} bytes short", into.size());
}

void iov_scatter(const iovec* iov, uint32_t iov_count, uint64_t skip_bytes, ConstBytes from) {
  for (uint32_t i = 0; i < iov_count && !from.empty(); ++i) {
    uint64_t skip = std::min<uint64_t>(skip_bytes, iov[i].iov_len);
    skip_bytes -= skip;
    size_t length = std::min<size_t>(iov[i].iov_len - skip, from.size());
    std::memcpy(static_cast<std::byte*>(iov[i].iov_base) + skip, from.data(), length);
    from = from.subspan(length);
  }
  BB_CHECK(from.empty(), "the iovecs are {} bytes short", from.size());
}

}  // namespace bb::io
