// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/nvme_device.h"

#include <algorithm>

#include "base/log.h"
#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kTransferMaxBytes = 1u << 20;
constexpr uint32_t kRetriesMax = 8;
constexpr uint64_t kBlocksMax = 65536;            // of one Write Zeroes
constexpr uint64_t kRangeBlocksMax = UINT32_MAX;  // of one deallocated range
constexpr uint64_t kZeroesBytes = 128 * KiB;
constexpr uint64_t kBackoffFirstNs = 10 * kNsPerMs;
constexpr uint64_t kBackoffMaxNs = 5 * kNsPerSecond;

}  // namespace

NvmeDevice::NvmeDevice(Context context, NvmeOptions options, std::string uri)
    : context_(context),
      options_(std::move(options)),
      gate_(context.loop),
      wake_(context.loop),
      tasks_(context.loop) {
  info_.uri = std::move(uri);
  tick_.device = this;
  tick_.fire = [](Timer* timer) { static_cast<Tick*>(timer)->device->on_tick(); };
  uint32_t count = uint32_t{options_.association.queue_depth} * options_.association.queues;
  slots_ = std::vector<Slot>(count);
  for (uint32_t i = 0; i < count; ++i) {
    Slot& slot = slots_[i];
    slot.device = this;
    slot.index = i;
    slot.done = [](HostCommand* command, Status lost) {
      auto* self = static_cast<Slot*>(command);
      self->device->on_done(*self, std::move(lost));
    };
  }
}

NvmeDevice::~NvmeDevice() {
  BB_CHECK(association_ == nullptr, "{}: destroyed without close()", info_.uri);
}

Task<Status> NvmeDevice::open() {
  Status status = co_await connect();
  if (!status.ok()) {
    set_state(DeviceState::kClosed);
    stopping_ = true;
    if (association_ != nullptr) co_await association_->close();
    association_.reset();
    co_return status.with_context(info_.uri);
  }
  uuid_ = association_->name_space().uuid;
  usable_ = true;
  on_tick();
  tasks_.spawn(maintain());
  co_return Status();
}

Task<Status> NvmeDevice::connect() {
  uint64_t deadline_ns = context_.loop.now_ns() + options_.connect_timeout_ns;
  Association::Owner* owner = this;
  association_ = std::make_unique<Association>(context_, options_.association, owner);
  BB_CO_TRY(co_await association_->establish_admin(deadline_ns));
  BB_CO_TRY(co_await association_->establish_io(deadline_ns));
  if (association_->broken()) co_return association_->why();
  co_return describe();
}

// Takes over what the target says of itself; a namespace that is another one now is refused.
Status NvmeDevice::describe() {
  const ControllerInfo& controller = association_->controller();
  const NamespaceInfo& ns = association_->name_space();
  uint64_t size_bytes = ns.block_count * ns.block_bytes;
  bool again = info_.size_bytes != 0;
  if (again && (size_bytes != info_.size_bytes || ns.block_bytes != info_.block_size_bytes ||
                ns.uuid != uuid_)) {
    return error(Code::k_bad_state,
                 "the namespace has changed: {} bytes in blocks of {}, uuid {}; it was {} in "
                 "blocks of {}, uuid {}",
                 size_bytes, ns.block_bytes, ns.uuid.to_string(), info_.size_bytes,
                 info_.block_size_bytes, uuid_.to_string());
  }
  if (ns.block_bytes != 512 && ns.block_bytes != 4096) {
    return error(Code::k_not_supported, "blocks of {} bytes", ns.block_bytes);
  }
  info_.size_bytes = size_bytes;
  info_.block_size_bytes = ns.block_bytes;
  info_.physical_block_bytes = std::max(ns.physical_block_bytes, ns.block_bytes);
  uint32_t limit = controller.transfer_max_bytes;
  info_.transfer_max_bytes = limit == 0 ? kTransferMaxBytes : std::min(limit, kTransferMaxBytes);
  info_.read_only = ns.read_only;
  info_.volatile_cache = controller.volatile_cache;
  info_.discard = (controller.optional_commands & kOncsDatasetManagement) != 0;
  can_zero_ = (controller.optional_commands & kOncsWriteZeroes) != 0;
  if (!can_zero_ && zeroes_.empty()) {
    zeroes_.resize(std::min<uint64_t>(kZeroesBytes, info_.transfer_max_bytes));
  }
  uint32_t queues = static_cast<uint32_t>(association_->queues().size());
  free_.clear();
  for (uint32_t i = uint32_t{association_->queue_depth()} * queues; i-- > 0;) free_.push_back(i);
  return {};
}

Task<Status> NvmeDevice::close() {
  set_state(DeviceState::kClosed);
  if (!usable_) fail_parked(UINT64_MAX);  // otherwise they only wait for their turn
  co_await gate_.close();
  stopping_ = true;
  if (association_ != nullptr && !usable_) {
    association_->break_off(error(Code::k_cancelled, "{}: closed", info_.uri));
  }
  wake_.set();
  co_await tasks_.join();
  context_.loop.disarm(tick_);
  co_return Status();
}

void NvmeDevice::on_association_broken(Association& association) {
  wake_.set();
  if (&association != association_.get() || !usable_) return;  // not in use yet
  usable_ = false;
  stats_.last_error = association.why();
  if (association.why().code() == Code::k_corrupt) ++stats_.digest_errors;  // of a header
  if (state() == DeviceState::kClosed) return fail_parked(UINT64_MAX);
  log_warn("{}: {} -> unavailable, reconnecting", info_.uri, association.why().text());
  disconnected();
}

void NvmeDevice::disconnected() {
  uint64_t until_ns = context_.loop.now_ns() + options_.wait_ns;
  set_state(DeviceState::kUnavailable);
  for (IoRequest* request = parked_first_; request != nullptr; request = parked(*request).next) {
    parked(*request).deadline_ns = until_ns;
  }
  if (options_.wait_ns == 0) fail_parked(UINT64_MAX);
}

Task<void> NvmeDevice::maintain() {
  while (!stopping_) {
    uint64_t keep_alive_ns = options_.association.keep_alive_ns;
    while (usable_ && !stopping_) {
      uint64_t pause_ns = keep_alive_ns == 0 ? 3600 * kNsPerSecond : keep_alive_ns / 2;
      bool woken = co_await wake_.wait_until(context_.loop.now_ns() + pause_ns);
      wake_.reset();
      if (woken || keep_alive_ns == 0 || !usable_ || stopping_) continue;
      Status kept = co_await association_->keep_alive(context_.loop.now_ns() + keep_alive_ns);
      if (!kept.ok()) association_->break_off(kept.with_context("keep alive"));
    }
    usable_ = false;
    co_await association_->close();
    association_.reset();
    bool back = co_await reconnect();
    if (!back) break;
  }
  if (association_ != nullptr) {
    usable_ = false;
    co_await association_->close();
    association_.reset();
  }
}

// With back-off and jitter, until it works or the device is closed: -> false.
Task<bool> NvmeDevice::reconnect() {
  uint64_t backoff_ns = kBackoffFirstNs;
  for (;;) {
    uint64_t jittered_ns = backoff_ns / 2 + context_.loop.prng().below(backoff_ns);
    wake_.reset();
    if (stopping_) co_return false;
    uint64_t until_ns = context_.loop.now_ns() + jittered_ns;
    while (!stopping_ && co_await wake_.wait_until(until_ns)) wake_.reset();
    if (stopping_) co_return false;
    Status status = co_await connect();
    if (stopping_) co_return false;  // maintain() closes what there is
    if (status.ok()) break;
    ++stats_.connect_failures;
    if (stats_.last_error.text() != status.text()) {
      log_warn("{}: cannot reconnect: {} -> trying again", info_.uri, status.text());
    }
    stats_.last_error = status;
    co_await association_->close();
    association_.reset();
    backoff_ns = std::min(2 * backoff_ns, kBackoffMaxNs);
  }
  usable_ = true;
  ++stats_.reconnects;
  raise_incarnation();
  log_info("{}: connected again -> incarnation {}", info_.uri, incarnation());
  if (state() != DeviceState::kClosed) set_state(DeviceState::kReady);
  start_parked();
  co_return true;
}

Status NvmeDevice::unavailable(const IoRequest& request) const {
  return error(Code::k_unavailable, "{}: {} of {} bytes at {}: {}", info_.uri,
               io_op_name(request.op), request.length_bytes, request.offset_bytes,
               stats_.last_error.ok() ? "not connected" : stats_.last_error.text());
}

void NvmeDevice::do_submit(IoRequest& request) {
  bool entered = gate_.enter();
  BB_CHECK(entered, "{}: used while closing", info_.uri);
  if (request.op == IoOp::kDiscard && !info_.discard) {
    request.done(&request,
                 error(Code::k_not_supported, "{}: the target cannot discard", info_.uri));
    gate_.leave();
    return;
  }
  if (usable_ && !free_.empty() && parked_first_ == nullptr) return start(request);
  if (!usable_ && options_.wait_ns == 0) {
    Status status = unavailable(request);
    count(request, status);
    request.done(&request, std::move(status));
    gate_.leave();
    return;
  }
  park(request);
}

void NvmeDevice::park(IoRequest& request) {
  uint64_t deadline_ns = usable_ ? 0 : context_.loop.now_ns() + options_.wait_ns;
  new (request.scratch) Parked{.next = nullptr, .deadline_ns = deadline_ns};
  (parked_last_ == nullptr ? parked_first_ : parked(*parked_last_).next) = &request;
  parked_last_ = &request;
}

IoRequest* NvmeDevice::unpark() {
  IoRequest* request = parked_first_;
  parked_first_ = parked(*request).next;
  if (parked_first_ == nullptr) parked_last_ = nullptr;
  return request;
}

void NvmeDevice::fail_parked(uint64_t until_ns) {
  while (parked_first_ != nullptr && parked(*parked_first_).deadline_ns <= until_ns) {
    IoRequest* request = unpark();
    Status status = unavailable(*request);
    count(*request, status);
    request->done(request, std::move(status));
    gate_.leave();
  }
}

void NvmeDevice::start_parked() {
  while (usable_ && parked_first_ != nullptr && !free_.empty()) start(*unpark());
}

void NvmeDevice::start(IoRequest& request) {
  Slot& slot = slots_[free_.back()];
  free_.pop_back();
  slot.request = &request;
  slot.retries = 0;
  slot.moved_bytes = 0;
  slot.deadline_ns = context_.loop.now_ns() + options_.io_timeout_ns;
  issue(slot);
}

void NvmeDevice::issue(Slot& slot) {
  auto& queues = association_->queues();
  if (queues.empty()) {  // between two associations; nothing is issued there
    on_done(slot, error(Code::k_unavailable, "not connected"));
    return;
  }
  build(slot);
  queues[slot.index % queues.size()]->submit(slot);
}

void NvmeDevice::build(Slot& slot) {
  const IoRequest& request = *slot.request;
  uint64_t left = request.length_bytes - slot.moved_bytes;
  uint64_t block = info_.block_size_bytes;
  uint64_t first = (request.offset_bytes + slot.moved_bytes) / block;
  slot.sqe = Sqe();
  slot.sqe.nsid = options_.association.nsid;
  slot.iov = request.iov;
  slot.iov_count = request.iov_count;
  slot.length_bytes = 0;
  slot.to_controller = request.op != IoOp::kRead;
  slot.step_bytes = left;
  IoOpcode opcode = IoOpcode::kFlush;
  uint32_t flags = request.fua ? kForceUnitAccess : 0;
  switch (request.op) {
    case IoOp::kRead:
    case IoOp::kWrite:
      opcode = request.op == IoOp::kRead ? IoOpcode::kRead : IoOpcode::kWrite;
      if (request.op == IoOp::kRead) flags = 0;
      slot.length_bytes = static_cast<uint32_t>(left);
      break;
    case IoOp::kFlush:
      break;
    case IoOp::kWriteZeroes:
      opcode = can_zero_ ? IoOpcode::kWriteZeroes : IoOpcode::kWrite;
      slot.step_bytes = std::min(left, can_zero_ ? kBlocksMax * block : zeroes_.size());
      if (can_zero_ && request.may_discard) flags |= kDeallocate;
      if (!can_zero_) {
        slot.length_bytes = static_cast<uint32_t>(slot.step_bytes);
        zeroes_iov_ = {.iov_base = zeroes_.data(), .iov_len = zeroes_.size()};
        slot.iov = &zeroes_iov_;
        slot.iov_count = 1;
      }
      break;
    case IoOp::kDiscard:
      opcode = IoOpcode::kDatasetManagement;
      slot.step_bytes = std::min(left, kRangeBlocksMax * block);
      store_le<uint32_t>(slot.range, 0);
      store_le<uint32_t>(slot.range + 4, static_cast<uint32_t>(slot.step_bytes / block));
      store_le<uint64_t>(slot.range + 8, first);
      slot.range_iov = {.iov_base = slot.range, .iov_len = sizeof slot.range};
      slot.iov = &slot.range_iov;
      slot.iov_count = 1;
      slot.length_bytes = sizeof slot.range;
      slot.sqe.cdw11 = kDsmDeallocate;  // cdw10: one range, 0's based
      break;
  }
  slot.sqe.opcode = static_cast<uint8_t>(opcode);
  if (request.op == IoOp::kFlush || request.op == IoOp::kDiscard) return;
  slot.sqe.cdw10 = static_cast<uint32_t>(first);
  slot.sqe.cdw11 = static_cast<uint32_t>(first >> 32);
  slot.sqe.cdw12 = static_cast<uint32_t>(slot.step_bytes / block - 1) | flags;
}

void NvmeDevice::on_done(Slot& slot, Status lost) {
  const IoRequest& request = *slot.request;
  auto failed = [&](Code code, std::string_view why) {
    return error(code, "{}: {} of {} bytes at {}: {}", info_.uri, io_op_name(request.op),
                 request.length_bytes, request.offset_bytes, why);
  };
  if (!lost.ok()) return finish(slot, failed(Code::k_unavailable, lost.text()));
  NvmeStatus status = slot.cqe.status;
  bool damaged = slot.digest_error || plain_status(status) == NvmeStatus::kTransientTransportError;
  if (damaged) {
    ++stats_.digest_errors;
    if (slot.retries++ < kRetriesMax) {
      ++stats_.retries;
      return issue(slot);
    }
    return finish(slot, failed(Code::k_io_error,
                               fmt::format("data damaged on the way {} times", slot.retries)));
  }
  if (plain_status(status) != NvmeStatus::kSuccess) {
    return finish(slot, failed(code_of(status), nvme_status_text(status)));
  }
  slot.moved_bytes += slot.step_bytes;
  if (slot.moved_bytes < request.length_bytes) return issue(slot);
  finish(slot, Status());
}

void NvmeDevice::finish(Slot& slot, Status status) {
  IoRequest& request = *slot.request;
  slot.request = nullptr;
  free_.push_back(slot.index);
  count(request, status);
  start_parked();
  request.done(&request, std::move(status));
  gate_.leave();
}

void NvmeDevice::count(const IoRequest& request, const Status& status) {
  bool reads = request.op == IoOp::kRead;
  ++(reads ? stats_.reads : request.op == IoOp::kWrite ? stats_.writes : stats_.others);
  if (!status.ok()) ++stats_.failures;
}

// Coarse on purpose: one timer for all commands, not one each.
void NvmeDevice::on_tick() {
  uint64_t now_ns = context_.loop.now_ns();
  if (usable_) {
    for (auto& queue : association_->queues()) queue->check_deadlines(now_ns);
  } else if (options_.wait_ns > 0) {
    fail_parked(now_ns);
  }
  if (stopping_) return;
  uint64_t shortest_ns = options_.io_timeout_ns;
  if (options_.wait_ns > 0) shortest_ns = std::min(shortest_ns, options_.wait_ns);
  uint64_t pause_ns = std::clamp(shortest_ns / 8, 5 * kNsPerMs, kNsPerSecond);
  context_.loop.arm(tick_, now_ns + pause_ns);
}

Task<Result<std::unique_ptr<Device>>> open_nvme_device(Context context, Uri uri, std::string text) {
  auto options = parse_nvme_options(std::move(uri), context.loop.prng());
  if (!options.ok()) co_return options.status();
  auto device = std::make_unique<NvmeDevice>(context, std::move(options).value(), std::move(text));
  BB_CO_TRY(co_await device->open());
  co_return std::unique_ptr<Device>(std::move(device));
}

}  // namespace bb::io::nvme
