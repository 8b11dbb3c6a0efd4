// SPDX-License-Identifier: Apache-2.0
#include "raid/direct_io.h"

#include "raid/array_core.h"

namespace bb::raid {

bool DirectIo::may_start(ArrayCore& core, const io::IoRequest& request, RegionRange regions) {
  if (core.checked() && !core.whole_blocks(request)) return false;
  if (request.op == io::IoOp::kRead) return !core.has_unequal(regions);
  if (core.tracked_ && !core.intent_.durable(regions)) return false;
  return !core.checked() || core.has_sums(request);
}

bool DirectIo::start(ArrayCore& core, io::IoRequest& request) {
  bool reads = request.op == io::IoOp::kRead;
  if (core.stripes_ || (!reads && request.op != io::IoOp::kWrite)) return false;
  if (!core.fenced_.empty() || !is_piece(core.geometry_.shape, request)) return false;
  RegionRange regions = core.geometry_.range_of(request.offset_bytes, request.length_bytes);
  if (!may_start(core, request, regions)) return false;
  if (core.idle_direct_.empty()) core.idle_direct_.push_back(std::make_unique<DirectIo>(core));
  DirectIo& direct = *core.idle_direct_.back();
  if (!direct.take(request, regions)) return false;
  if (reads && !direct.read()) {
    direct.release();
    return false;
  }
  if (!reads) direct.write();
  return true;
}

// Its range, and itself from those that are idle.
bool DirectIo::take(io::IoRequest& request, RegionRange regions) {
  lock_.offset_bytes = request.offset_bytes;
  lock_.length_bytes = request.length_bytes;
  lock_.mode = request.op == io::IoOp::kRead ? LockMode::kShared : LockMode::kExclusive;
  if (!BB_MUTANT(kNoRangeLock) && !array_.ranges_.try_acquire(lock_)) return false;
  host_ = &request;
  regions_ = regions;
  (void)array_.idle_direct_.back().release();
  array_.idle_direct_.pop_back();
  (void)array_.direct_.enter();  // it is open as long as the array takes requests
  came_ns_ = array_.host_came();
  return true;
}

void DirectIo::release() {
  if (lock_.held) array_.ranges_.release(lock_);
  clear();
  array_.host_left(came_ns_);
  array_.idle_direct_.emplace_back(this);
  array_.direct_.leave();
}

// Nothing of this object is touched after `done`: it may be in use again by then.
void DirectIo::finish(Status status) {
  if (host_->op == io::IoOp::kWrite && array_.tracked_) array_.intent_.end(regions_);
  io::IoRequest* host = host_;
  if (!status.ok()) status = array_.failure_of(*host, status);
  release();
  host->done(host, std::move(status));
}

// --- writes

void DirectIo::write() {
  if (array_.tracked_) array_.intent_.begin(regions_);
  if (array_.checked()) array_.record_write(*host_);
  MemberRuns none;
  slots_ = array_.add_copies(*this, none, *host_);
  FanOut::start([](FanOut* fan) { static_cast<DirectIo*>(fan)->written(); });
}

void DirectIo::written() {
  MemberMask ok_mask;
  Status status = array_.note_written(*this, slots_, &ok_mask);
  Member* lacking = nullptr;
  bool settled = status.ok() && array_.fenced_.empty() && array_.settled(ok_mask, slots_, &lacking);
  if (settled) return finish(std::move(status));
  array_.host_io_.spawn(settle_write(ok_mask, std::move(status)));
}

io::Task<void> DirectIo::settle_write(MemberMask ok_mask, Status status) {
  if (status.ok()) status = co_await array_.settle(ok_mask, slots_);
  if (!status.ok() && array_.tracked_) array_.after_failed_write(regions_);
  finish(std::move(status));
}

// --- reads

bool DirectIo::read() {
  member_ = array_.choose_holder(host_->offset_bytes, {}, &place_bytes_);
  if (member_ == nullptr) return false;
  member_->last_end_bytes = place_bytes_ + host_->length_bytes;
  add_like(*member_, *host_, array_.geometry_.data_offset_bytes + place_bytes_);
  FanOut::start([](FanOut* fan) { static_cast<DirectIo*>(fan)->answered(); });
  return true;
}

void DirectIo::answered() {
  Status status = std::move(leg(0).status);
  if (status.ok() && array_.checked()) {
    BlockSums found;
    found.compute({host_->iov, host_->iov_count});
    uint64_t block = place_bytes_ / kCheckedBlockBytes;
    const Checksums& sums = *member_->sums;
    if (sums.missing(block, found.values().size()) != sums.pages()) {
      return array_.host_io_.spawn(read_otherwise(Status()));
    }
    status = array_.compare_sums(*member_, place_bytes_, found);
  }
  status = array_.as_answered(*member_, std::move(status));
  if (!status.ok() || !array_.fenced_.empty()) {
    return array_.host_io_.spawn(read_otherwise(std::move(status)));
  }
  ++member_->reads;
  finish(std::move(status));
}

// `status`: what is wrong with the member's answer; ok: nothing, it only has to be compared.
io::Task<void> DirectIo::read_otherwise(Status status) {
  Tried tried;
  if (!status.ok()) array_.note_unread(*member_, status, &tried);
  status = array_.fenced_.empty() ? co_await array_.read_held(host_, tried) : array_.usable();
  if (!status.ok() && array_.has_unequal(regions_)) {
    if (lock_.held) array_.ranges_.release(lock_);
    status = co_await array_.read_unequal(host_);
  }
  finish(std::move(status));
}

}  // namespace bb::raid
