// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>
#include <span>

#include "base/json.h"
#include "capi/handle.h"
#include "io/device_paths.h"
#include "io/device_uri.h"

using bb::Code;
using bb::Result;
using bb::Status;
using bb::io::Device;
using bb::io::IoOp;
using bb::io::IoRequest;
using bb::io::Task;
using bb::io::Work;
namespace capi = bb::capi;

namespace {

using Opened = Result<std::unique_ptr<Device>>;

Task<Status> open_into(bb_runtime* runtime, std::string uri, std::unique_ptr<Device>* into) {
  Opened opened = co_await bb::io::open_device(runtime->runtime->context(), std::move(uri));
  if (!opened.ok()) co_return opened.status();
  *into = std::move(opened).value();
  co_return Status();
}

// The device dies where it lived: on its loop.
Task<Status> close_device(std::unique_ptr<Device>* device) {
  Status status = co_await (*device)->close();
  device->reset();
  co_return status;
}

// Any length, in pieces that the device takes; a length of 0 is for the device to refuse.
Task<Status> transfer(Device* device, IoOp op, uint64_t offset_bytes, std::byte* memory,
                      uint64_t length_bytes) {
  uint64_t piece_max = device->info().transfer_max_bytes;
  uint64_t at = 0;
  do {
    uint64_t length = std::min(length_bytes - at, piece_max);
    iovec iov{.iov_base = memory + at, .iov_len = length};
    Status status = co_await Device::Io(*device, op, {offset_bytes + at, length}, iov, false);
    if (!status.ok()) co_return status;
    at += length;
  } while (at < length_bytes);
  co_return Status();
}

Task<Status> simple(Device* device, IoOp op, uint64_t offset_bytes, uint64_t length_bytes) {
  co_return co_await Device::Io(*device, op, {offset_bytes, length_bytes});
}

Task<Status> find_extents(Device* device, uint64_t offset_bytes, uint64_t length_bytes,
                          std::span<bb_extent>* into) {
  auto limit = static_cast<uint32_t>(std::min<size_t>(into->size(), UINT32_MAX));
  auto found = co_await device->extents(offset_bytes, length_bytes, limit);
  if (!found.ok()) co_return found.status();
  *into = into->first(found->size());
  for (size_t i = 0; i < found->size(); ++i) {
    const bb::io::Extent& from = (*found)[i];
    (*into)[i] = {.length_bytes = from.length_bytes,
                  .flags = (from.hole ? BB_EXTENT_HOLE : 0u) | (from.zero ? BB_EXTENT_ZERO : 0u)};
  }
  co_return Status();
}

int run_transfer(const char* call, bb_device* device, IoOp op, uint64_t offset_bytes,
                 std::byte* memory, uint64_t length_bytes) {
  if (device == nullptr) return capi::invalid(fmt::format("{}: device is NULL", call));
  if (memory == nullptr) return capi::invalid(fmt::format("{}: buffer is NULL", call));
  return capi::code_of(capi::call(device->runtime, [=] {
    return transfer(device->device, op, offset_bytes, memory, length_bytes);
  }));
}

int run_simple(const char* call, bb_device* device, IoOp op, uint64_t offset_bytes,
               uint64_t length_bytes) {
  if (device == nullptr) return capi::invalid(fmt::format("{}: device is NULL", call));
  return capi::code_of(capi::call(
      device->runtime, [=] { return simple(device->device, op, offset_bytes, length_bytes); }));
}

// The library's part of a bb_io, in its `reserved`: first it travels to the loop as Work, there it
// becomes the request.
struct Submitted final : Work, IoRequest {
  bb_device* target = nullptr;
  bb_io* io = nullptr;

  static void on_loop(Work* work) {
    auto* self = static_cast<Submitted*>(work);
    self->target->device->submit(*self);
  }
  static void on_done(IoRequest* request, Status status) {
    auto* self = static_cast<Submitted*>(request);
    bb_io* io = self->io;
    self->~Submitted();
    io->done(io->arg, static_cast<int>(status.code()), status.text().c_str());
  }
};
static_assert(sizeof(Submitted) + 16 <= sizeof(bb_io::reserved));
static_assert(alignof(Submitted) <= 16);

void describe(const Device& device, bb_device_info& full) {
  const bb::io::DeviceInfo& from = device.info();
  full.block_size_bytes = from.block_size_bytes;
  full.size_bytes = from.size_bytes;
  full.transfer_max_bytes = from.transfer_max_bytes;
  full.read_only = from.read_only ? 1 : 0;
  full.volatile_cache = from.volatile_cache ? 1 : 0;
  full.ready = device.state() == bb::io::DeviceState::kReady ? 1 : 0;
}

Status check_io(const bb_device* device, const bb_io* io) {
  if (device == nullptr)
    return bb::error(Code::k_invalid_argument, "bb_device_submit: device is NULL");
  if (io->struct_size != sizeof(bb_io)) {
    return bb::error(Code::k_invalid_argument,
                     "bb_device_submit: struct_size is {}, expected {}: use BB_IO_INIT",
                     io->struct_size, sizeof(bb_io));
  }
  if (io->op > BB_IO_WRITE_ZEROES) {
    return bb::error(Code::k_invalid_argument, "bb_device_submit: no operation {}", io->op);
  }
  if ((io->flags & ~BB_IO_FUA) != 0) {
    return bb::error(Code::k_invalid_argument, "bb_device_submit: unknown flags {:#x}", io->flags);
  }
  bool transfers = io->op == BB_IO_READ || io->op == BB_IO_WRITE;
  if (transfers && (io->iov == nullptr || io->iov_count == 0 || io->iov_count > 1024)) {
    return bb::error(Code::k_invalid_argument, "bb_device_submit: {} iovecs; allowed are 1 to 1024",
                     io->iov == nullptr ? 0 : io->iov_count);
  }
  return {};
}

}  // namespace

int bb_device_open(bb_runtime* runtime, const char* uri, bb_device** out) {
  if (out == nullptr) return capi::invalid("bb_device_open: out is NULL");
  *out = nullptr;
  if (runtime == nullptr) return capi::invalid("bb_device_open: runtime is NULL");
  if (uri == nullptr) return capi::invalid("bb_device_open: uri is NULL");
  std::unique_ptr<Device> device;
  Status status =
      capi::call(runtime, [&] { return open_into(runtime, std::string(uri), &device); });
  if (!status.ok()) return capi::code_of(status);
  *out = capi::adopt(runtime, std::move(device));
  return BB_OK;
}

void bb_device_open_async(bb_runtime* runtime, const char* uri, bb_device_opened done, void* arg) {
  BB_CHECK(done != nullptr, "bb_device_open_async: done is NULL");
  if (runtime == nullptr || uri == nullptr) {
    done(arg, BB_INVALID_ARGUMENT, "bb_device_open_async: an argument is NULL", nullptr);
    return;
  }
  runtime->children.fetch_add(1);  // what is being opened lives in the runtime already
  runtime->runtime->start(
      [runtime, text = std::string(uri)] {
        return bb::io::open_device(runtime->runtime->context(), text);
      },
      [runtime, done, arg](Opened opened) {
        // The device counts before its opening ceases to: in between the runtime could be closed.
        Status status = opened.status();
        bb_device* device = status.ok() ? capi::adopt(runtime, std::move(opened).value()) : nullptr;
        runtime->children.fetch_sub(1);
        done(arg, static_cast<int>(status.code()), status.text().c_str(), device);
      });
}

int bb_device_close(bb_device** device) {
  if (device == nullptr || *device == nullptr) return BB_OK;
  bb_device* handle = *device;
  if (handle->owned == nullptr) {
    return capi::code_of(
        bb::error(Code::k_bad_state, "bb_device_close: an array's device is closed by its array"));
  }
  if (handle->users.load() != 0) {
    return capi::code_of(bb::error(Code::k_bad_state,
                                   "bb_device_close: {} arrays or exports use {}",
                                   handle->users.load(), handle->device->info().uri));
  }
  Status blocked = capi::may_block(handle->runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  capi::unwatch(handle->runtime, *handle);
  Status status = capi::call(handle->runtime, [&] { return close_device(&handle->owned); });
  handle->runtime->children.fetch_sub(1);
  delete handle;
  *device = nullptr;
  return capi::code_of(status);
}

int bb_device_get_info(bb_device* device, bb_device_info* info) {
  if (device == nullptr || info == nullptr)
    return capi::invalid("bb_device_get_info: an argument is NULL");
  if (info->struct_size < sizeof(uint32_t) || info->struct_size > 65536) {
    return capi::invalid(fmt::format(
        "bb_device_get_info: struct_size is {}: use BB_DEVICE_INFO_INIT", info->struct_size));
  }
  bb_device_info full = BB_DEVICE_INFO_INIT;
  full.struct_size = info->struct_size;
  capi::on_loop(device->runtime, [&] { describe(*device->device, full); });
  std::memcpy(info, &full, std::min<size_t>(info->struct_size, sizeof full));
  return BB_OK;
}

int bb_device_get_paths(bb_device* device, char** json) {
  if (device == nullptr || json == nullptr)
    return capi::invalid("bb_device_get_paths: an argument is NULL");
  bb::Json all = bb::Json::array();
  capi::on_loop(device->runtime, [&] {
    auto* paths = dynamic_cast<bb::io::DevicePaths*>(device->device);
    if (paths == nullptr) return;
    for (const bb::io::PathInfo& path : paths->paths()) {
      all.push_back({{"address", path.address},
                     {"state", path.state},
                     {"access", path.access},
                     {"in_flight", path.in_flight},
                     {"latency_ns", path.latency_ns},
                     {"connects", path.connects},
                     {"failures", path.failures},
                     {"detail", path.detail}});
    }
  });
  *json = capi::copy_text(bb::dump_json(all));
  return BB_OK;
}

int bb_device_read(bb_device* device, uint64_t offset_bytes, void* buffer, size_t length_bytes) {
  return run_transfer("bb_device_read", device, IoOp::kRead, offset_bytes,
                      static_cast<std::byte*>(buffer), length_bytes);
}

int bb_device_write(bb_device* device, uint64_t offset_bytes, const void* buffer,
                    size_t length_bytes) {
  return run_transfer("bb_device_write", device, IoOp::kWrite, offset_bytes,
                      static_cast<std::byte*>(const_cast<void*>(buffer)), length_bytes);
}

int bb_device_flush(bb_device* device) {
  return run_simple("bb_device_flush", device, IoOp::kFlush, 0, 0);
}

int bb_device_discard(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes) {
  return run_simple("bb_device_discard", device, IoOp::kDiscard, offset_bytes, length_bytes);
}

int bb_device_get_extents(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes,
                          bb_extent* extents, size_t* extent_count) {
  if (device == nullptr) return capi::invalid("bb_device_get_extents: device is NULL");
  if (extents == nullptr || extent_count == nullptr) {
    return capi::invalid("bb_device_get_extents: extents or extent_count is NULL");
  }
  std::span<bb_extent> into(extents, *extent_count);
  Status status = capi::call(device->runtime, [&] {
    return find_extents(device->device, offset_bytes, length_bytes, &into);
  });
  if (status.ok()) *extent_count = into.size();
  return capi::code_of(status);
}

int bb_device_write_zeroes(bb_device* device, uint64_t offset_bytes, uint64_t length_bytes) {
  return run_simple("bb_device_write_zeroes", device, IoOp::kWriteZeroes, offset_bytes,
                    length_bytes);
}

void bb_device_submit(bb_device* device, bb_io* io) {
  BB_CHECK(io != nullptr && io->done != nullptr, "bb_device_submit: io or io->done is NULL");
  Status status = check_io(device, io);
  if (!status.ok()) {
    io->done(io->arg, static_cast<int>(status.code()), status.text().c_str());
    return;
  }
  auto place = (reinterpret_cast<uintptr_t>(io->reserved) + 15) & ~uintptr_t{15};
  auto* submitted = new (reinterpret_cast<void*>(place)) Submitted;
  submitted->Work::run = Submitted::on_loop;
  submitted->IoRequest::done = Submitted::on_done;
  submitted->target = device;
  submitted->io = io;
  submitted->op = static_cast<IoOp>(io->op);
  submitted->fua = (io->flags & BB_IO_FUA) != 0;
  submitted->offset_bytes = io->offset_bytes;
  submitted->iov = io->iov;
  submitted->iov_count = io->iov_count;
  bool transfers = io->op == BB_IO_READ || io->op == BB_IO_WRITE;
  submitted->length_bytes =
      transfers ? bb::io::iov_length_bytes(io->iov, io->iov_count) : io->length_bytes;
  bb::io::Runtime& runtime = *device->runtime->runtime;
  if (!runtime.own_thread() || runtime.on_loop_thread()) {
    // Never on this stack: a callback that submits the next would nest without end.
    runtime.reactor().post(*submitted);
  } else {
    runtime.reactor().post_remote(*submitted);
  }
}
