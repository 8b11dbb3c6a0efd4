// SPDX-License-Identifier: Apache-2.0
// A read: from any member the record calls in-sync; repaired from another; never back in time.
#include "raid/array_core.h"

namespace bb::raid {

bool ArrayCore::has_unequal(RegionRange regions) const {
  if (unequal_.empty() || BB_MUTANT(kReadUnequalRegion)) return false;
  return unequal_.any_in(regions.first, regions.count);
}

io::Task<Status> ArrayCore::read(io::IoRequest* request) {
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  if (has_unequal(regions)) co_return co_await read_unequal(request);
  // Shared with other reads, not with writes: a write is seen on every member or on none, so that
  // two reads during one write cannot see the new bytes first and the old ones afterwards.
  RangeHold hold(*this, request->offset_bytes, request->length_bytes, LockMode::kShared);
  co_await hold;
  if (has_unequal(regions)) {  // a write that we waited for failed
    hold.unlock();
    co_return co_await read_unequal(request);
  }
  uint64_t bad_mask = 0;
  Member* served = nullptr;
  Status status = co_await read_any(request, &bad_mask, &served);
  if (status.ok() && bad_mask != 0) co_await repair(request, bad_mask);
  co_return status;
}

// Tries in-sync members until one answers. `bad_mask`: who is there but could not read the range.
io::Task<Status> ArrayCore::read_any(io::IoRequest* request, uint64_t* bad_mask, Member** served) {
  uint64_t tried = 0;
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  Status last = fail(Code::k_unavailable, "no in-sync member is usable (recover)");
  for (;;) {
    for (const auto& member : members_) {
      bool may_read = member->readable() || (BB_MUTANT(kReadStaleMember) && member->writable());
      candidates_[member->index] = {.usable = may_read && (tried & member->bit()) == 0,
                                    .in_flight = member->in_flight,
                                    .last_end_bytes = member->last_end_bytes};
    }
    uint32_t choice =
        choose_read_member({candidates_, members_.size()}, request->offset_bytes, rotation_++);
    if (choice == kNoCandidate) {
      BB_CO_TRY(usable());
      bool awaited = !usable_member() && may_serve();
      if (!awaited || !co_await changed_.wait_until(deadline_ns)) co_return last;
      continue;
    }
    Member& member = *members_[choice];
    tried |= member.bit();
    ++member.in_flight;
    member.last_end_bytes = request->offset_bytes + request->length_bytes;
    Status status =
        co_await member.device->readv(geometry_.data_offset_bytes + request->offset_bytes,
                                      request->iov, request->iov_count, request->length_bytes);
    --member.in_flight;
    // Whoever stopped being in-sync meanwhile, or lost writes, has not answered.
    if (status.ok() && !BB_MUTANT(kIgnoreIncarnation) && member.lost()) {
      status = error(Code::k_unavailable, "the connection was lost");
    }
    if (status.ok() && !member.readable() && !BB_MUTANT(kReadStaleMember)) {
      status = error(Code::k_unavailable, "it is no longer in-sync");
    }
    if (!fenced_.empty()) co_return usable();
    if (status.ok()) {
      ++member.reads;
      *served = &member;
      co_return status;
    }
    ++member.errors;
    bool medium = status.code() == Code::k_io_error || status.code() == Code::k_corrupt;
    if (medium && member.readable()) {
      *bad_mask |= member.bit();
    } else {
      suspect(member, status.to_string());
    }
    last = status.with_context(name_of(member));
  }
}

// Writes back what another member could read; the drive may then use a spare sector.
io::Task<void> ArrayCore::repair(io::IoRequest* request, uint64_t members_mask) {
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  intent_.begin(regions);  // a torn repair is a difference like any other
  Status status = co_await persist(regions);
  if (status.ok()) {
    FanOut fan(*this);
    for (auto& member : members_) {
      if ((members_mask & member->bit()) == 0 || !member->readable()) continue;
      fan.add(*member, {.op = io::IoOp::kWrite,
                        .offset_bytes = geometry_.data_offset_bytes + request->offset_bytes,
                        .length_bytes = request->length_bytes,
                        .iov = request->iov,
                        .iov_count = request->iov_count});
    }
    co_await fan;
    for (uint32_t i = 0; i < fan.count(); ++i) {
      FanOut::Leg& leg = fan.leg(i);
      leg.member->written_epoch = intent_.epoch();
      if (leg.status.ok()) {
        ++leg.member->repaired;
        log_warn("array \"{}\": {} could not read {} bytes at {} -> rewritten from another member",
                 record_.name, name_of(*leg.member), request->length_bytes, request->offset_bytes);
      } else {
        suspect(*leg.member,
                fmt::format("rewriting {} unreadable bytes at {}: {}", request->length_bytes,
                            request->offset_bytes, leg.status.to_string()));
      }
    }
  }
  intent_.end(regions);
}

// Rule 6, for just the bytes that are read: from one member to all others, flushed everywhere, and
// whoever did not take it is gone by a committed change before anybody sees the bytes.
io::Task<Status> ArrayCore::read_unequal(io::IoRequest* request) {
  RangeHold hold(*this, request->offset_bytes, request->length_bytes, LockMode::kExclusive);
  co_await hold;
  // The copy is a write, and its range may reach into a clean region: its bits are durable first.
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  intent_.begin(regions);
  Status status = co_await persist(regions);
  bool again = status.ok();
  while (again) status = co_await equalise(request, &again);
  intent_.end(regions);
  co_return status;
}

// `again`: the source was lost on the way, another may do.
io::Task<Status> ArrayCore::equalise(io::IoRequest* request, bool* again) {
  *again = false;
  uint64_t bad_mask = 0;
  Member* source = nullptr;
  BB_CO_TRY(co_await read_any(request, &bad_mask, &source));
  FanOut fan(*this);
  for (auto& member : members_) {
    if (!member->writable() || member.get() == source) continue;
    fan.add(*member, {.op = io::IoOp::kWrite,
                      .offset_bytes = geometry_.data_offset_bytes + request->offset_bytes,
                      .length_bytes = request->length_bytes,
                      .iov = request->iov,
                      .iov_count = request->iov_count});
  }
  co_await fan;
  uint64_t ok_mask = source->bit();
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    leg.member->written_epoch = intent_.epoch();
    if (leg.status.ok()) {
      ok_mask |= leg.member->bit();
      resynced_bytes_ += request->length_bytes;
    } else {
      suspect(*leg.member, leg.status.to_string());
    }
  }
  if (!source->required()) {
    *again = true;
    co_return fail(Code::k_unavailable, "the source of a copy was lost");
  }
  BB_CO_TRY(co_await settle(ok_mask));
  Result<uint64_t> flushed = co_await flush_members();
  co_return flushed.status();
}

}  // namespace bb::raid
