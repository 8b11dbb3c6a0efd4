// SPDX-License-Identifier: Apache-2.0
// Makes copies equal again: after an unclean stop, and onto members that come back or are new.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {
namespace {

constexpr uint64_t kExtentMaxBytes = 1 * MiB;
constexpr uint64_t kUnlimited = 1024 * GiB;  // a second
constexpr uint64_t kBesideHostBytes = 64 * KiB;
constexpr uint64_t kSliceBesideHostBytes = 8 * KiB;  // of each member of a stripe
constexpr uint64_t kWindowBytes = 4 * MiB;  // on their way at once, in at most as many pieces:
constexpr uint64_t kWorkersMax = 16;
constexpr size_t kWorkersBesideHost = 4;
constexpr uint64_t kRoundBytes = 64 * MiB;   // between flushes
constexpr uint64_t kBusyNs = 20 * kNsPerMs;  // how long after host I/O we still step back
constexpr uint64_t kSlackNs = kNsPerMs / 5;
constexpr uint64_t kRetryMinNs = kNsPerSecond / 4;
constexpr uint64_t kRetryMaxNs = 16 * kNsPerSecond;  // a sector may be unreadable on the only copy

}  // namespace

std::vector<BehindSet> ArrayCore::behind_sets() {
  std::vector<BehindSet> sets;
  for (auto& member : members_) {
    if (!member->writable() || member->state != MemberState::kRecovering) continue;
    if (!member->behind.empty()) sets.push_back({member->index, &member->behind});
  }
  return sets;
}

uint64_t ArrayCore::resync_pending_regions() const {
  uint64_t pending = unequal_.count();
  for (const auto& member : members_) {
    if (member->active && member->state == MemberState::kRecovering) {
      pending = std::max(pending, member->behind.count());
    }
  }
  return pending;
}

void ArrayCore::count_resync_total() {
  uint64_t pending = resync_pending_regions();
  if (resync_total_regions_ == resync_done_regions_) {  // a new one begins
    resync_done_regions_ = 0;
    resync_done_bytes_ = 0;
  }
  resync_total_regions_ = resync_done_regions_ + pending;
}

bool ArrayCore::resync_wanted() const {
  if (!holds_all() || !fenced_.empty() || closing_) return false;
  if (stripes_ && !stripes_->serves()) return false;
  if (!unequal_.empty()) return true;
  return std::ranges::any_of(members_, [](const auto& m) {
    return m->listed && m->writable() && m->state == MemberState::kRecovering;
  });
}

io::Task<void> ArrayCore::resync_loop() {
  std::vector<io::AlignedBuffer> buffers;
  uint64_t retry_ns = kRetryMinNs;
  while (!stop_background_) {
    resync_work_.reset();
    if (!resync_wanted()) {
      buffers.clear();
      co_await resync_work_.wait();
      continue;
    }
    if (buffers.empty()) {
      uint64_t bytes = std::min<uint64_t>(kExtentMaxBytes, transfer_max_bytes_);
      if (geometry_.shape.chunk_bytes != 0) bytes = std::min(bytes, geometry_.shape.chunk_bytes);
      uint64_t workers = std::min(kWindowBytes / bytes, kWorkersMax);
      for (uint64_t i = 0; i < workers; ++i) buffers.emplace_back(bytes);
    }
    uint64_t budget = kRoundBytes;
    bool failed = false;
    io::TaskGroup workers(loop_);
    for (size_t i = 0; i < buffers.size(); ++i) {
      workers.spawn(resync_worker(&buffers[i], i, &budget, &failed));
    }
    co_await workers.join();
    if (!stop_background_) co_await end_round();
    if (failed) co_await stop_.wait_until(loop_.now_ns() + retry_ns);
    retry_ns = failed ? std::min(2 * retry_ns, kRetryMaxNs) : kRetryMinNs;
  }
}

// After the copies of a round: make them durable, then believe them.
io::Task<void> ArrayCore::end_round() {
  if (!copied_.empty()) {
    flushing_ = copied_;
    copied_.clear_all();
    Result<uint64_t> flushed = co_await flush_members();
    if (flushed.ok()) {
      for (uint64_t r = flushing_.next(0); r < flushing_.regions(); r = flushing_.next(r + 1)) {
        unequal_.clear(r);
        doubtful_.clear(r);
      }
    }
    flushing_.clear_all();
  }
  for (size_t i = 0; i < members_.size() && !stop_background_; ++i) {
    Member* member = members_[i].get();
    bool complete = member->listed && member->writable() && member->behind.empty() &&
                    member->state == MemberState::kRecovering;
    // While in-sync members may differ it is not known which of them the new one equals.
    if (!complete || !unequal_.empty()) continue;
    Status status = co_await promote(member);
    if (!status.ok() && !stop_background_) {
      log_info("array \"{}\": {} is not in-sync yet: {}", record_.name, name_of(*member),
               status.to_string());
      co_await stop_.wait_until(loop_.now_ns() + 10 * kNsPerMs);
    }
  }
  changed();
}

io::Task<void> ArrayCore::resync_worker(io::AlignedBuffer* buffer, size_t index, uint64_t* budget,
                                        bool* failed) {
  bool few = index < kWorkersBesideHost;
  while (*budget > 0 && !*failed && !stop_background_ && resync_wanted()) {
    if (!few && host_busy()) break;  // each of its requests may wait for all of ours
    ResyncExtent extent = next_resync_extent(geometry_, unequal_, copied_, behind_sets(),
                                             resync_cursor_, buffer->size());
    if (extent.none()) break;
    // Taken: nobody else copies it. A write that fails from now on puts it back.
    RegionRange regions = extent.regions;
    if (extent.equalise) copied_.set_range(regions.first, regions.count);
    for (auto& member : members_) {
      if (extent.behind_mask.test(member->index)) {
        member->behind.clear_range(regions.first, regions.count);
      }
    }
    resync_cursor_ = regions.first + regions.count;
    uint64_t length = regions.count * geometry_.region_size_bytes;
    *budget -= std::min(*budget, length);
    Status status = co_await copy_extent(extent, buffer);
    if (status.ok()) {
      resync_done_regions_ = std::min(resync_done_regions_ + regions.count, resync_total_regions_);
      resync_done_bytes_ += length;
      continue;
    }
    *failed = true;
    copied_.clear_range(regions.first, regions.count);
    for (auto& member : members_) {
      if (extent.behind_mask.test(member->index) && member->active &&
          member->state == MemberState::kRecovering) {
        member->behind.set_range(regions.first, regions.count);
      }
    }
    if (stop_background_) break;
    log_warn("array \"{}\": resync at region {}: {} -> tried again", record_.name, regions.first,
             status.to_string());
  }
}

io::Task<Status> ArrayCore::copy_extent(ResyncExtent extent, io::AlignedBuffer* buffer) {
  if (stripes_) co_return co_await rebuild_extent(extent.regions);
  ArrayRange range = geometry_.array_range(extent.regions);
  uint64_t end = range.offset_bytes + range.length_bytes;
  for (uint64_t at = range.offset_bytes; at < end;) {
    if (stop_background_) co_return error(Code::k_cancelled, "the array is being closed");
    // A host waits for no long copies.
    uint64_t most = host_busy() ? std::min(kBesideHostBytes, buffer->size()) : buffer->size();
    uint64_t length = first_piece(geometry_.shape, at, std::min(end - at, most)).length_bytes;
    if (wants_copy(extent, at)) {
      Status status = co_await copy_piece(extent, at, length, buffer);
      bool blocks = blocks_may_do(status, length);
      for (uint64_t from = at; blocks && from < at + length; from += kCheckedBlockBytes) {
        uint64_t here = std::min(kCheckedBlockBytes, at + length - from);
        BB_CO_TRY(co_await copy_piece(extent, from, here, buffer));
      }
      if (!blocks) BB_CO_TRY(std::move(status));
      co_await keep_to_rate(length);
    }
    at += length;
  }
  co_return Status();
}

// What is recorded of each stripe is proved, and its blocks go to those who lack them.
io::Task<Status> ArrayCore::rebuild_extent(RegionRange regions) {
  uint64_t chunk = geometry_.shape.chunk_bytes;
  uint64_t first = regions.first * geometry_.region_size_bytes / chunk;
  uint64_t end = std::min(geometry_.member_bytes / chunk,
                          (regions.first + regions.count) * geometry_.region_size_bytes / chunk);
  Status status;
  for (uint64_t stripe = first; stripe < end; ++stripe) {
    if (stop_background_) co_return error(Code::k_cancelled, "the array is being closed");
    // One of which nothing decides is no reason to leave the others.
    Status proved = checked() ? co_await stripes_->prove(stripe) : Status();
    RegionRange region{stripe * chunk / geometry_.region_size_bytes, 1};
    bool wanted = std::ranges::any_of(members_, [region](const auto& member) {
      return member->writable() && !member->readable() && !member->lacks(region);
    });
    if (wanted && proved.ok() && !BB_MUTANT(kRecoverWithoutCopy)) {
      uint64_t slice = host_busy() ? std::min(kSliceBesideHostBytes, chunk) : chunk;
      proved = co_await stripes_->rebuild(stripe, slice);
      resynced_bytes_ += chunk;
    }
    if (status.ok()) status = std::move(proved);
    co_await keep_to_rate(chunk);
  }
  co_return status;
}

bool ArrayCore::host_busy() const {
  return host_in_flight_ > 0 || loop_.now_ns() - host_last_ns_ < kBusyNs;
}

// Beside a host, as fast as that hardly notices; else as fast as allowed.
io::Task<void> ArrayCore::keep_to_rate(uint64_t bytes) {
  uint64_t limit = options_.resync_bytes_per_second;  // 0: none
  if (limit == 0) limit = kUnlimited;
  uint64_t least = std::min(options_.resync_busy_bytes_per_second, limit);
  uint64_t rate = limit;
  while (host_busy() && !stop_background_) {
    rate = pace_.rate(loop_.now_ns(), least, limit);
    if (rate != 0) break;
    co_await stop_.wait_until(pace_.resting_until_ns());
  }
  uint64_t go_on_ns = throttle_.take(loop_.now_ns(), bytes, rate);
  // A timer for less costs more than it spares, and what is left is waited for later.
  if (go_on_ns > loop_.now_ns() + kSlackNs) {
    (void)co_await stop_.wait_until(go_on_ns);
  } else {
    co_await loop_.yield();  // members that answer at once would let nobody else do anything
  }
}

// Does anybody who holds this byte need it?
bool ArrayCore::wants_copy(const ResyncExtent& extent, uint64_t offset_bytes) {
  if (extent.equalise) return true;
  bool wanted = false;
  for_each_holder(offset_bytes, [&](const Member& member, uint64_t) {
    wanted = wanted || extent.behind_mask.test(member.index);
  });
  return wanted;
}

io::Task<Status> ArrayCore::copy_piece(ResyncExtent extent, uint64_t offset_bytes,
                                       uint64_t length_bytes, io::AlignedBuffer* buffer) {
  // No host write is between our read of the source and our write of the targets.
  RangeHold hold(*this, offset_bytes, length_bytes, LockMode::kExclusive);
  co_await hold;
  if (BB_MUTANT(kRecoverWithoutCopy) && !extent.equalise) co_return Status();
  iovec vector{.iov_base = buffer->data(), .iov_len = length_bytes};
  io::IoRequest piece;
  piece.op = io::IoOp::kRead;
  piece.offset_bytes = offset_bytes;
  piece.length_bytes = length_bytes;
  piece.iov = &vector;
  piece.iov_count = 1;
  // A chunk may reach into the next region, and that one may be clean.
  RegionRange regions = geometry_.range_of(offset_bytes, length_bytes);
  intent_.begin(regions);
  Status status = co_await persist(regions);
  if (status.ok()) {
    Member* source = nullptr;
    MemberMask ok_mask;
    auto lacks = [&extent, regions](const Member& member) {
      bool behind = extent.behind_mask.test(member.index);
      return behind || (extent.equalise && !member.lacks(regions));
    };
    if (extent.equalise && checked()) {
      bool again = false;
      status = co_await agree(&piece, &again);
    } else {
      status = co_await copy_from_one(&piece, lacks, &source, &ok_mask);
    }
    if (status.ok()) status = usable();
  }
  intent_.end(regions);
  co_return status;
}

io::Task<Status> ArrayCore::wait_in_sync(uint64_t deadline_ns) {
  for (;;) {
    BB_CO_TRY(usable());
    bool suspects = std::ranges::any_of(
        members_, [](const auto& m) { return m->listed && m->suspect && m->active; });
    if (!record_.any_missing() && unequal_.empty() && !suspects) co_return Status();
    if (!co_await changed_.wait_until(deadline_ns)) {
      std::string detail;
      std::string state = state_text(&detail);
      co_return fail(Code::k_timed_out,
                     "the array \"{}\" is {}: {} failed, {} recovering, {} "
                     "regions to copy",
                     record_.name, state, record_.count(MemberState::kFailed),
                     record_.count(MemberState::kRecovering), resync_pending_regions());
    }
  }
}

}  // namespace bb::raid
