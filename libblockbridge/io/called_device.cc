// SPDX-License-Identifier: Apache-2.0
#include "io/called_device.h"

#include <algorithm>

#include "base/check.h"

namespace bb::io {
namespace {

constexpr uint64_t kZeroPieceBytes = 64 * 1024;

}  // namespace

// The device's part of a request: how it comes back to the loop.
struct CalledDevice::Call final : Work {
  CalledDevice* device = nullptr;
  IoRequest* request = nullptr;
  Status status;
};

Result<std::unique_ptr<Device>> CalledDevice::create(Context context, DeviceInfo info,
                                                     uint32_t threads,
                                                     std::unique_ptr<DeviceFunctions> functions) {
  if (info.block_size_bytes != 512 && info.block_size_bytes != 4096) {
    return error(Code::k_invalid_argument, "{}: block size {}, allowed are 512 and 4096", info.uri,
                 info.block_size_bytes);
  }
  if (info.size_bytes == 0 || info.size_bytes % info.block_size_bytes != 0) {
    return error(Code::k_invalid_argument, "{}: size {} is not a multiple of the block size {}",
                 info.uri, info.size_bytes, info.block_size_bytes);
  }
  if (threads == 0 || threads > kThreadsMax) {
    return error(Code::k_invalid_argument, "{}: {} threads, allowed are 1 to {}", info.uri, threads,
                 kThreadsMax);
  }
  std::unique_ptr<CalledDevice> device(
      new CalledDevice(context, std::move(info), std::move(functions)));
  device->threads_.reserve(threads);
  for (uint32_t i = 0; i < threads; ++i) {
    device->threads_.emplace_back([raw = device.get()] { raw->work(); });
  }
  return std::unique_ptr<Device>(std::move(device));
}

CalledDevice::CalledDevice(Context context, DeviceInfo info,
                           std::unique_ptr<DeviceFunctions> functions)
    : loop_(context.loop), functions_(std::move(functions)), gate_(loop_) {
  info_ = std::move(info);
  measure(context.loop);
}

CalledDevice::~CalledDevice() { join(); }

void CalledDevice::do_submit(IoRequest& request) {
  static_assert(sizeof(Call) <= sizeof(IoRequest::scratch));
  if (!gate_.enter()) {
    return request.done(&request, error(Code::k_bad_state, "{}: it is closing", info_.uri));
  }
  auto* call = new (request.scratch) Call;
  call->device = this;
  call->request = &request;
  call->run = [](Work* work) {
    auto* self = static_cast<Call*>(work);
    CalledDevice* device = self->device;
    IoRequest* done = self->request;
    Status status = std::move(self->status);
    self->~Call();
    done->done(done, std::move(status));
    device->gate_.leave();  // last: whoever closes the device waits for this
  };
  {
    std::lock_guard lock(mutex_);
    line_.push_back(request);
  }
  wake_.notify_one();
}

void CalledDevice::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !line_.empty(); });
    if (line_.empty()) return;
    IoRequest& request = line_.front();
    line_.pop_front();
    lock.unlock();
    auto* call = std::launder(reinterpret_cast<Call*>(request.scratch));
    call->status = run(request);
    loop_.post_remote(*call);
    lock.lock();
  }
}

Status CalledDevice::run(const IoRequest& request) {
  Status status;
  switch (request.op) {
    case IoOp::kRead:
    case IoOp::kWrite: {
      uint64_t at = request.offset_bytes;
      for (uint32_t i = 0; i < request.iov_count && status.ok(); ++i) {
        auto* memory = static_cast<std::byte*>(request.iov[i].iov_base);
        size_t length = request.iov[i].iov_len;
        if (length == 0) continue;
        status = request.op == IoOp::kRead ? functions_->read(at, {memory, length})
                                           : functions_->write(at, {memory, length});
        at += length;
      }
      break;
    }
    case IoOp::kFlush:
      return functions_->flush();
    case IoOp::kDiscard:
      return functions_->discard(request.offset_bytes, request.length_bytes);
    case IoOp::kWriteZeroes:
      status = zero(request);
      break;
  }
  if (request.fua && status.ok()) status = functions_->flush();
  return status;
}

Status CalledDevice::zero(const IoRequest& request) {
  if (info_.fast_zero) return functions_->write_zeroes(request.offset_bytes, request.length_bytes);
  if (request.fast_only) {
    return error(Code::k_not_supported, "{}: zeroes are no faster than data", info_.uri);
  }
  std::vector<std::byte> zeroes(std::min(request.length_bytes, kZeroPieceBytes));
  for (uint64_t at = 0; at < request.length_bytes; at += zeroes.size()) {
    uint64_t length = std::min<uint64_t>(zeroes.size(), request.length_bytes - at);
    BB_TRY(functions_->write(request.offset_bytes + at, {zeroes.data(), length}));
  }
  return {};
}

Task<Status> CalledDevice::close() {
  co_await gate_.close();
  join();  // they have nothing to do any more
  set_state(DeviceState::kClosed);
  co_return Status();
}

void CalledDevice::join() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace bb::io
