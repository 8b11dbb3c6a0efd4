// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/local_device.h"

#include <linux/nvme_ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "base/units.h"
#include "io/offload.h"

namespace bb::io::nvme {
namespace {

static_assert(sizeof(PassthroughCommand) == sizeof(nvme_uring_cmd));
static_assert(offsetof(PassthroughCommand, address) == offsetof(nvme_uring_cmd, addr));
static_assert(offsetof(PassthroughCommand, data_length) == offsetof(nvme_uring_cmd, data_len));
static_assert(offsetof(PassthroughCommand, cdw10) == offsetof(nvme_uring_cmd, cdw10));
static_assert(offsetof(PassthroughCommand, timeout_ms) == offsetof(nvme_uring_cmd, timeout_ms));

constexpr uint64_t kPageBytes = 4096;
constexpr size_t kRangeStride = 64;  // no range crosses a page
constexpr size_t kZeroesBytes = 128 * KiB;
constexpr uint32_t kRetriesMax = 8;

bool moves_data(IoOp op) { return op == IoOp::kRead || op == IoOp::kWrite; }
bool is_gone(int32_t result) { return result == -ENODEV || result == -ENXIO; }

}  // namespace

LocalDevice::LocalDevice(Context context, LocalOptions options, OpenedNamespace opened,
                         std::unique_ptr<SideRing> ring, std::string uri)
    : context_(context),
      options_(std::move(options)),
      opened_(std::move(opened)),
      ring_(std::move(ring)),
      slots_(options_.queue_depth),
      low_(LowMemory::of_process()),
      ranges_(low_, kRangeStride * options_.queue_depth),
      zeroes_(low_, kZeroesBytes),
      gate_(context.loop) {
  const NamespaceInfo& space = opened_.info;
  info_.uri = std::move(uri);
  info_.size_bytes = space.block_count * space.block_bytes;
  info_.block_size_bytes = space.block_bytes;
  info_.physical_block_bytes = space.physical_block_bytes;
  info_.transfer_max_bytes = opened_.target.transfer_max_bytes;
  info_.read_only = options_.read_only || space.read_only;
  info_.volatile_cache = opened_.volatile_cache;
  info_.discard = opened_.target.discard_max_bytes > 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.device = this;
    if (has_memory()) slot.range = {ranges_.data() + i * kRangeStride, kDsmRangeBytes};
    slot.complete = [](SideRing::Op* op, int32_t result) {
      auto* self = static_cast<Slot*>(op);
      self->device->on_done(*self, result);
    };
    free_.push_back(&slot);
  }
}

LocalDevice::~LocalDevice() = default;

Task<Status> LocalDevice::close() {
  set_state(DeviceState::kClosed);
  co_await gate_.close();
  co_return Status();
}

void LocalDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  if (request.op == IoOp::kDiscard && !info_.discard) {
    request.done(&request, error(Code::k_not_supported, "{}: the drive cannot discard", info_.uri));
    gate_.leave();
    return;
  }
  if (free_.empty()) {
    parked_.push_back(request);
  } else {
    start(request);
  }
}

void LocalDevice::start(IoRequest& request) {
  Slot& slot = *free_.back();
  free_.pop_back();
  slot.request = &request;
  slot.done_bytes = 0;
  slot.retries = 0;
  slot.deadline_ns = context_.loop.now_ns() + options_.io_timeout_ns;
  if (moves_data(request.op) && needs_bounce(request)) {
    slot.bounce = DistinctMemory(low_, request.length_bytes);
    if (slot.bounce.data() == nullptr) {
      return finish(slot, error(Code::k_no_space, "{}: no memory for {} bytes", info_.uri,
                                request.length_bytes));
    }
    if (request.op == IoOp::kWrite) {
      iov_gather(request.iov, request.iov_count, 0, slot.bounce.first(request.length_bytes));
    }
  }
  issue(slot);
}

// The kernel maps the caller's pages for the drive, or copies them, page for page.
bool LocalDevice::needs_bounce(const IoRequest& request) const {
  uint64_t pages = 0;
  for (uint32_t i = 0; i < request.iov_count; ++i) {
    auto begin = reinterpret_cast<uintptr_t>(request.iov[i].iov_base);
    pages += (begin + request.iov[i].iov_len + kPageBytes - 1) / kPageBytes - begin / kPageBytes;
  }
  if (pages > opened_.target.segments_max) return true;
  return request.iov_count == 1
             ? low_.confuses(request.iov->iov_base, request.length_bytes)
             : low_.confuses_list(request.iov, request.iov_count * sizeof(iovec));
}

LocalRequest LocalDevice::rest_of(const Slot& slot) const {
  const IoRequest& request = *slot.request;
  return {.op = request.op,
          .fua = request.fua,
          .may_discard = request.may_discard,
          .offset_bytes = request.offset_bytes,
          .length_bytes = request.length_bytes,
          .done_bytes = slot.done_bytes};
}

void LocalDevice::issue(Slot& slot) {
  const IoRequest& request = *slot.request;
  LocalRequest rest = rest_of(slot);
  slot.step = next_step(opened_.target, rest, kZeroesBytes);
  PassthroughCommand command = slot.step.command;
  command.timeout_ms = static_cast<uint32_t>(
      std::min<uint64_t>((options_.io_timeout_ns + kNsPerMs - 1) / kNsPerMs, UINT32_MAX));
  uint32_t op = NVME_URING_CMD_IO;
  auto point_to = [&command](const void* memory, uint64_t length) {
    command.address = reinterpret_cast<uint64_t>(memory);
    command.data_length = static_cast<uint32_t>(length);
  };
  switch (slot.step.data) {
    case LocalData::kNone:
      break;
    case LocalData::kRequest:
      if (slot.bounce.data() != nullptr) {
        point_to(slot.bounce.data(), request.length_bytes);
      } else if (request.iov_count == 1) {
        point_to(request.iov->iov_base, request.length_bytes);
      } else {
        point_to(request.iov, request.iov_count);
        op = NVME_URING_CMD_IO_VEC;
      }
      break;
    case LocalData::kZeroes:
      point_to(zeroes_.data(), slot.step.step_bytes);
      break;
    case LocalData::kRange:
      encode_range(slot.range, opened_.target, rest, slot.step.step_bytes);
      point_to(slot.range.data(), slot.range.size());
      break;
  }
  io_uring_sqe* sqe = ring_->prepare(slot);
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = opened_.command.get();
  sqe->cmd_op = op;
  std::memcpy(SideRing::command_of(sqe), &command, sizeof command);
}

void LocalDevice::on_done(Slot& slot, int32_t result) {
  bool again = was_cut_off(result, changes_data(slot.request->op));
  if (again && slot.retries < kRetriesMax && context_.loop.now_ns() < slot.deadline_ns) {
    ++slot.retries;
    ++stats_.retries;
    return issue(slot);
  }
  Status status = outcome_of(slot, result);
  if (is_gone(result) && state() == DeviceState::kReady) {
    log_warn("{}: the drive is gone -> unavailable", info_.uri);
    set_state(DeviceState::kUnavailable);
  }
  slot.done_bytes += slot.step.step_bytes;
  if (status.ok() && slot.done_bytes < slot.request->length_bytes) return issue(slot);
  finish(slot, std::move(status));
}

Status LocalDevice::outcome_of(const Slot& slot, int32_t result) const {
  if (result == 0) return {};
  const IoRequest& request = *slot.request;
  auto failed = [&](Code code, std::string_view why) {
    return error(code, "{}: {} of {} bytes at {}: {}", info_.uri, io_op_name(request.op),
                 request.length_bytes, request.offset_bytes, why);
  };
  if (result > 0) {
    auto status = static_cast<NvmeStatus>(result);
    return failed(code_of(status), nvme_status_text(status));
  }
  if (is_gone(result)) return failed(Code::k_unavailable, "the drive is gone");
  if (result == -EINTR || result == -EAGAIN) {
    bool late = context_.loop.now_ns() >= slot.deadline_ns;
    return late ? failed(Code::k_timed_out,
                         fmt::format("no answer within {} ms", options_.io_timeout_ns / kNsPerMs))
                : failed(Code::k_unavailable,
                         fmt::format("the controller was reset {} times meanwhile", slot.retries));
  }
  Code code = result == -EACCES || result == -EPERM ? Code::k_permission_denied
              : result == -EOPNOTSUPP               ? Code::k_not_supported
                                                    : Code::k_io_error;
  return failed(code, fmt::format("{} (errno {})", std::strerror(-result), -result));
}

void LocalDevice::finish(Slot& slot, Status status) {
  IoRequest& request = *slot.request;
  if (slot.bounce.data() != nullptr) {
    if (status.ok() && request.op == IoOp::kRead) {
      iov_scatter(request.iov, request.iov_count, 0, slot.bounce.first(request.length_bytes));
    }
    slot.bounce = {};
  }
  slot.request = nullptr;
  free_.push_back(&slot);
  count(request, status);
  if (!parked_.empty()) {
    IoRequest& next = parked_.front();
    parked_.pop_front();
    start(next);
  }
  request.done(&request, std::move(status));
  gate_.leave();
}

void LocalDevice::count(const IoRequest& request, const Status& status) {
  bool reads = request.op == IoOp::kRead;
  ++(reads ? stats_.reads : request.op == IoOp::kWrite ? stats_.writes : stats_.others);
  if (!status.ok()) ++stats_.failures;
}

Task<Result<std::unique_ptr<Device>>> open_local_device(Context context, Uri uri,
                                                        std::string text) {
  if (context.reactor == nullptr || context.offload == nullptr) {
    co_return error(Code::k_not_supported, "{}: there are no drives in the simulator", text);
  }
  if (context.reactor->uring() == nullptr) {
    co_return error(Code::k_not_supported,
                    "{}: NVMe passthrough needs io_uring, which is refused here; allow it in the "
                    "sandbox, or use file:/dev/nvmeXnY",
                    text);
  }
  BB_CO_ASSIGN(LocalOptions options, parse_local_options(std::move(uri)));
  std::optional<Result<OpenedNamespace>> opened;
  const LocalOptions* asked = &options;
  auto* answer = &opened;
  co_await context.offload->run(context.loop,
                                [asked, answer] { answer->emplace(open_namespace(*asked)); });
  if (!opened->ok()) co_return opened->status();
  BB_CO_ASSIGN(std::unique_ptr<SideRing> ring,
               SideRing::create(*context.reactor, options.queue_depth, true));
  log_info("{}: {} with {} blocks of {} bytes, {} bytes in one transfer", text, (*opened)->model,
           (*opened)->info.block_count, (*opened)->info.block_bytes,
           (*opened)->target.transfer_max_bytes);
  auto device = std::make_unique<LocalDevice>(context, std::move(options),
                                              std::move(*opened).value(), std::move(ring), text);
  if (!device->has_memory()) {
    BB_CO_TRY(co_await device->close());
    co_return error(Code::k_no_space, "{}: no memory for the drive's commands", text);
  }
  co_return device;
}

}  // namespace bb::io::nvme
