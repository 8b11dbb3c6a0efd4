// SPDX-License-Identifier: Apache-2.0
// The array as a device: admission, description, stopping.
#include "raid/array.h"

#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

ArrayCore::ArrayCore(io::Context context, ArrayOptions options, MembershipAuthority* authority,
                     const MembershipRecord& record)
    : context_(context),
      loop_(context.loop),
      options_(options),
      authority_(authority),
      record_(record),
      geometry_(record.geometry()),
      tracked_(geometry_.shape.redundant() || geometry_.checked()),
      intent_(record.array, geometry_),
      holders_(geometry_.shape.members),
      unequal_(geometry_.regions()),
      doubtful_(geometry_.regions()),
      copied_(geometry_.regions()),
      flushing_(geometry_.regions()),
      changed_(loop_),
      bitmap_done_(loop_),
      sums_fetched_(loop_),
      bitmap_work_(loop_),
      membership_work_(loop_),
      resync_work_(loop_),
      readmit_work_(loop_),
      stop_(loop_),
      sums_max_(options.checksum_pages_max != 0 ? options.checksum_pages_max
                                                : checksum_pages_max(record.size_bytes)),
      pages_(geometry_.pages()),
      membership_mutex_(loop_),
      superblock_mutex_(loop_),
      sums_mutex_(loop_),
      command_mutex_(loop_),
      host_io_(loop_),
      background_(loop_),
      direct_(loop_),
      commands_(loop_),
      scrub_mutex_(loop_) {
  if (geometry_.shape.level->parity > 0) stripes_ = std::make_unique<StripePath>(*this);
}

ArrayCore::~ArrayCore() {
  for (auto& member : members_) {
    if (member->watcher.watching) member->device->unwatch(member->watcher);
  }
}

void ArrayCore::start_background() {
  background_.spawn(bitmap_loop());
  background_.spawn(membership_loop());
  background_.spawn(clean_loop());
  background_.spawn(resync_loop());
  background_.spawn(slow_loop());
  if (options_.auto_readmit) background_.spawn(readmit_loop());
}

io::Task<void> ArrayCore::serve(io::IoRequest* request) {
  uint64_t came_ns = host_came();
  Status status;
  if (!fenced_.empty()) {
    status = usable();
  } else {
    switch (request->op) {
      case io::IoOp::kRead:
        status = stripes_ ? co_await read_stripes(request) : co_await read(request);
        break;
      case io::IoOp::kWrite:
        status = stripes_ ? co_await write_stripes(request) : co_await write(request);
        break;
      case io::IoOp::kFlush:
        status = co_await flush();
        break;
      case io::IoOp::kDiscard:
      case io::IoOp::kWriteZeroes:
        status = co_await write_zeroes(request);
        break;
    }
  }
  host_left(came_ns);
  if (!status.ok()) status = failure_of(*request, status);
  request->done(request, std::move(status));
}

// While nobody asks how long requests take, no clock is read for them.
uint64_t ArrayCore::host_came() {
  ++host_in_flight_;
  host_last_ns_ = loop_.batch_ns();
  return pace_.wants(host_last_ns_) ? loop_.now_ns() : host_last_ns_;
}

void ArrayCore::host_left(uint64_t came_ns) {
  --host_in_flight_;
  host_last_ns_ = loop_.batch_ns();
  if (!pace_.wants(host_last_ns_)) return;
  pace_.host_done(loop_.now_ns() - came_ns);
}

Status ArrayCore::failure_of(const io::IoRequest& request, const Status& status) const {
  return status.with_context(fmt::format("array \"{}\": {} {} bytes at {}", record_.name,
                                         io::io_op_name(request.op), request.length_bytes,
                                         request.offset_bytes));
}

std::string ArrayCore::state_text(std::string* detail) const {
  if (closed_) return "stopped";
  if (!fenced_.empty()) {
    *detail = fenced_;
    return "fenced";
  }
  if (draining_) return "stopping";
  if (holds_all() && stripes_ && !stripes_->serves()) {
    *detail = fmt::format("its journal is gone through: {}", stripes_->stuck().to_string());
    return "recover";
  }
  if (!holds_all()) {
    for (const auto& member : members_) {
      if (!member->required()) continue;
      *detail +=
          fmt::format("{}{}: {}", detail->empty() ? "" : "; ", name_of(*member), member->detail);
    }
    return "recover";
  }
  uint64_t percent =
      resync_total_regions_ == 0
          ? 0
          : std::min<uint64_t>(99, resync_done_regions_ * 100 / resync_total_regions_);
  bool recovering = std::ranges::any_of(members_, [](const auto& m) {
    return m->writable() && m->listed && m->state == MemberState::kRecovering;
  });
  bool suspects = std::ranges::any_of(
      members_, [](const auto& m) { return m->listed && m->active && m->suspect; });
  if (recovering) return fmt::format("online (recovering {}%)", percent);
  if (suspects || record_.any_missing()) {
    for (const auto& member : members_) {
      bool away = member->listed && (member->suspect || member->state == MemberState::kFailed);
      if (!away) continue;
      *detail += fmt::format("{}{}: {}", detail->empty() ? "" : "; ", name_of(*member),
                             member->detail.empty() ? "failed" : member->detail);
    }
    return "online (degraded)";
  }
  if (!unequal_.empty()) return fmt::format("online (resyncing {}%)", percent);
  return "online";
}

ArrayInfo ArrayCore::describe() const {
  ArrayInfo info;
  info.uuid = record_.array;
  info.name = record_.name;
  info.state = state_text(&info.detail);
  info.level = record_.level;
  info.version = record_.version;
  info.epoch = record_.epoch;
  info.reason = record_.reason;
  info.chunk_bytes = geometry_.shape.chunk_bytes;
  info.integrity = geometry_.integrity;
  info.copies = geometry_.shape.copies;
  info.slots = geometry_.shape.members;
  info.size_bytes = geometry_.size_bytes();
  info.region_size_bytes = geometry_.region_size_bytes;
  info.regions = geometry_.regions();
  info.dirty_regions = intent_.dirty().count();
  info.unequal_regions = unequal_.count();
  info.resync_total_bytes = resync_total_regions_ * geometry_.region_size_bytes;
  info.resync_done_bytes = resync_done_bytes_;
  info.resynced_bytes = resynced_bytes_;
  info.bitmap_writes = bitmap_writes_;
  info.degraded_since_wall_ns = degraded_since_wall_ns_;
  info.left_out = left_out_;
  for (const auto& member : members_) {
    if (!member->listed) continue;
    io::IoStats did;
    if (member->device != nullptr) did = member->device->meter()->stats();
    info.members.push_back({.uuid = member->uuid,
                            .state = member->state,
                            .generation = member->generation,
                            .slot = member->slot,
                            .label = member->label,
                            .present = member->writable(),
                            .suspect = member->suspect,
                            .slow = member->pace.slow(),
                            .detail = member->detail.empty() && member->pace.slow()
                                          ? "much slower than the others"
                                          : member->detail,
                            .behind_bytes = member->behind.count() * geometry_.region_size_bytes,
                            .reads = member->reads,
                            .writes = member->writes,
                            .errors = member->errors,
                            .repaired_ranges = member->repaired,
                            .checksum_errors = member->checksum_errors,
                            .read_ns = did.kind(io::IoKind::kRead).stage(io::IoStage::kTotal),
                            .write_ns = did.kind(io::IoKind::kWrite).stage(io::IoStage::kTotal)});
  }
  return info;
}

io::Task<Status> ArrayCore::close() {
  if (draining_) co_return Status();
  draining_ = true;
  co_await direct_.close();
  co_await host_io_.join();
  closing_ = true;
  stop_background_ = true;
  stop_.set();
  changed();
  bitmap_done_.set();
  bitmap_work_.set();
  membership_work_.set();
  resync_work_.set();
  readmit_work_.set();
  if (stripes_) stripes_->wake();
  co_await background_.join();
  co_await commands_.close();
  Status status;
  if (fenced_.empty() && holds_all()) {
    Status recorded = co_await write_sums(0);
    Result<uint64_t> flushed = co_await flush_members();
    status = flushed.status();
    // All of it is durable on every member: the next start has nothing to equalise.
    bool all = recorded.ok() && flushed.ok() && *flushed != 0;
    if (all && may_clean()) intent_.clean(*flushed, unequal_);
    if (intent_.batch_wanted()) {
      MemberMask ok_mask = co_await write_pages();
      intent_.batch_end(ok_mask.any());
    }
  }
  if (stripes_) co_await stripes_->close();
  closed_ = true;
  for (auto& member : members_) {
    if (member->watcher.watching) member->device->unwatch(member->watcher);
    member->watcher.watching = false;
    if (member->owned == nullptr) continue;
    Status closed = co_await member->owned->close();
    if (!closed.ok()) log_debug("{}: {}", name_of(*member), closed.to_string());
  }
  co_return status;
}

Array::Array(std::unique_ptr<ArrayCore> core) : core_(std::move(core)) {
  const MembershipRecord& record = core_->record_;
  info_.uri = fmt::format("array:{}", record.name);
  info_.size_bytes = record.size_bytes;
  info_.block_size_bytes = record.block_size_bytes;
  info_.physical_block_bytes = record.block_size_bytes;
  for (const auto& member : core_->members_) {
    if (member->device == nullptr) continue;
    const io::DeviceInfo& device = member->device->info();
    info_.physical_block_bytes = std::max(info_.physical_block_bytes, device.physical_block_bytes);
    info_.transfer_max_bytes = std::min(info_.transfer_max_bytes, device.transfer_max_bytes);
    info_.volatile_cache |= device.volatile_cache;
    info_.discard |= device.discard;
  }
  // Parity has to be kept true: nothing is freed, and zeroes are written as they are.
  if (core_->stripes_) info_.discard = false;
  core_->transfer_max_bytes_ = info_.transfer_max_bytes;
  measure(core_->loop_);
}

Array::~Array() {
  BB_CHECK(core_->closed_, "array \"{}\" was destroyed without close()", core_->record_.name);
}

ArrayInfo Array::describe() const { return core_->describe(); }
const Uuid& Array::uuid() const { return core_->record_.array; }

io::Task<Status> Array::fail_member(Uuid member, std::string reason) {
  return core_->fail_member(member, std::move(reason));
}
io::Task<Status> Array::readmit_member(Uuid member, MemberDevice device) {
  return core_->readmit_member(member, std::move(device));
}
io::Task<Status> Array::replace_member(Uuid old, MemberDevice fresh, bool force) {
  return core_->replace_member(old, std::move(fresh), force);
}
bool Array::uses(const io::Device& device) const {
  return std::ranges::any_of(core_->members_,
                             [&](const auto& member) { return member->device == &device; });
}
io::Task<Status> Array::remove_member(Uuid member) { return core_->remove_member(member); }

io::Task<Result<ScrubReport>> Array::scrub(ScrubRange range) { return core_->scrub(range); }
io::Task<Result<ScrubRun>> Array::scrub_all(ScrubOptions options) {
  return core_->scrub_all(options);
}
io::Task<Status> Array::stop_scrub(ScrubStop how) { return core_->stop_scrub(how); }
io::Task<void> Array::load_scrub_log() { return core_->load_scrub_log(); }
ScrubInfo Array::scrub_info() const { return core_->scrub_info(); }
void Array::set_scrub_rate(uint64_t bytes_per_second) {
  core_->options_.scrub_bytes_per_second = bytes_per_second;
}

void Array::set_resync_rate(uint64_t bytes_per_second, uint64_t busy_bytes_per_second) {
  core_->options_.resync_bytes_per_second = bytes_per_second;
  core_->options_.resync_busy_bytes_per_second = busy_bytes_per_second;
}

io::Task<Status> Array::wait_in_sync(uint64_t deadline_ns) {
  return core_->wait_in_sync(deadline_ns);
}

io::Task<Status> Array::close() {
  Status status = co_await core_->close();
  set_state(io::DeviceState::kClosed);
  co_return status;
}

void Array::do_submit(io::IoRequest& request) {
  if (core_->draining_) {
    request.done(&request,
                 error(Code::k_bad_state, "array \"{}\": it is being closed", core_->record_.name));
    return;
  }
  if (DirectIo::start(*core_, request)) return;
  core_->host_io_.spawn(core_->serve(&request));
}

}  // namespace bb::raid
