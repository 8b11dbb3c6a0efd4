// SPDX-License-Identifier: Apache-2.0
// How a write reaches every member: bitmap, then data, then the acknowledgement.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

namespace {

constexpr uint64_t kZeroesAtOnceBytes = 1 * MiB;  // with parity they are written as they are

// Parts of checked blocks go alone.
uint64_t up_to_whole_blocks(uint64_t at_bytes, uint64_t length_bytes) {
  uint64_t end = at_bytes + length_bytes;
  if (at_bytes % kCheckedBlockBytes != 0) {
    return std::min(end, round_up(at_bytes, kCheckedBlockBytes)) - at_bytes;
  }
  uint64_t whole = round_down(length_bytes, kCheckedBlockBytes);
  return whole != 0 ? whole : length_bytes;
}

}  // namespace

io::Task<Status> ArrayCore::write(const io::IoRequest* request) {
  RangeHold hold(*this, request->offset_bytes, request->length_bytes, LockMode::kExclusive);
  co_await hold;
  if (checked() && !whole_blocks(*request)) co_return co_await write_parts(request);
  co_return co_await write_held(request);
}

io::Task<Status> ArrayCore::write_held(const io::IoRequest* request) {
  if (stripes_) co_return co_await write_stripes_held(request);
  if (!tracked_) co_return co_await write_members(request);
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  intent_.begin(regions);
  Status status = co_await write_locked(request, regions);
  intent_.end(regions);
  co_return status;
}

io::Task<Status> ArrayCore::write_locked(const io::IoRequest* request, RegionRange regions) {
  if (BB_MUTANT(kBitmapAfterData)) {
    BB_CO_TRY(co_await write_members(request));
    co_return co_await persist(regions);
  }
  // Rule 1. Until the bits are durable no member has seen a byte of the data.
  if (!intent_.durable(regions)) BB_CO_TRY(co_await persist(regions));
  Status status = co_await write_members(request);
  if (!status.ok()) after_failed_write(regions);
  co_return status;
}

// The same with parity: the journal makes it whole or undone, so nothing is unequal after a crash;
// the bits are for members that are away.
io::Task<Status> ArrayCore::write_stripes(const io::IoRequest* request) {
  // Where blocks can be written in part, those who write them whole stay out of it meanwhile; else
  // a stripe's lock is enough.
  if (!checked() || record_.block_size_bytes >= kCheckedBlockBytes) {
    co_return co_await write_stripes_held(request);
  }
  bool whole = whole_blocks(*request);
  RangeHold hold(*this, request->offset_bytes, request->length_bytes,
                 whole ? LockMode::kShared : LockMode::kExclusive);
  co_await hold;
  co_return whole ? co_await write_stripes_held(request) : co_await write_parts(request);
}

io::Task<Status> ArrayCore::write_stripes_held(const io::IoRequest* request) {
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  intent_.begin(regions);
  Status status;
  if (!intent_.durable(regions)) status = co_await persist(regions);
  if (status.ok()) {
    status = co_await stripes_->write(request);
    if (!status.ok()) after_failed_write(regions);
  }
  intent_.end(regions);
  co_return status;
}

// The host was told that the write failed, so it may have happened on some members only. Reads of
// it make the members equal first, as after an unclean stop.
void ArrayCore::after_failed_write(RegionRange regions) {
  if (!stripes_) unequal_.set_range(regions.first, regions.count);
  doubtful_.clear_range(regions.first, regions.count);
  copied_.clear_range(regions.first, regions.count);
  flushing_.clear_range(regions.first, regions.count);
  for (auto& member : members_) {
    if (member->active && member->state == MemberState::kRecovering) {
      member->behind.set_range(regions.first, regions.count);
    }
  }
  count_resync_total();
  resync_work_.set();
}

// Legs for all who hold a copy of any of it, and the slots that do.
uint64_t ArrayCore::add_copies(FanOut& fan, MemberRuns& runs, const io::IoRequest& request) {
  uint64_t slots = 0;
  if (is_piece(geometry_.shape, request)) {
    for_each_holder(request.offset_bytes, [&](Member& member, uint64_t place_bytes) {
      slots |= member.slot_bit();
      if (!member.writable()) return;
      if (BB_MUTANT(kWriteOneMirror) && fan.count() > 0) return;
      fan.add_like(member, request, geometry_.data_offset_bytes + place_bytes);
    });
    return slots;
  }
  Pieces pieces(geometry_.shape, request);
  while (pieces.next()) {
    const io::IoRequest& piece = pieces.request();
    bool first = true;
    for_each_holder(piece.offset_bytes, [&](Member& member, uint64_t place_bytes) {
      slots |= member.slot_bit();
      if (!member.writable() || (BB_MUTANT(kWriteOneMirror) && !first)) return;
      runs.add(member, place_bytes, piece.length_bytes, pieces.memory());
      first = false;
    });
  }
  runs.add_to(fan, request, geometry_.data_offset_bytes);
  return slots;
}

io::Task<Status> ArrayCore::write_members(const io::IoRequest* request) {
  if (checked()) {
    BB_CO_TRY(co_await fetch_for_write(request));
    record_write(*request);
  }
  FanOut fan(*this);
  MemberRuns runs;
  uint64_t slots = add_copies(fan, runs, *request);
  co_await fan;
  MemberMask ok_mask;
  BB_CO_TRY(note_written(fan, slots, &ok_mask));
  // Rule 3.
  Member* lacking = nullptr;
  if (settled(ok_mask, slots, &lacking) && fenced_.empty()) co_return Status();
  co_return co_await settle(ok_mask, slots);
}

// An error: not on enough members. They keep their states (the array needs them), but what some got
// may differ from the others now: the caller marks the regions.
Status ArrayCore::note_written(FanOut& fan, uint64_t slots, MemberMask* ok_mask) {
  Status status = judge(fan, slots, ok_mask);
  if (BB_MUTANT(kWriteOneMirror)) ok_mask->set();
  for (uint32_t i = 0; i < fan.count() && status.ok(); ++i) {
    if (fan.leg(i).status.ok()) ++fan.leg(i).member->writes;
  }
  return status;
}

// Long ranges go piece by piece, so that none holds up the bitmap or other writes for long.
io::Task<Status> ArrayCore::write_zeroes(io::IoRequest* request) {
  constexpr uint64_t kPieceBytes = 64 * MiB;
  uint64_t piece = std::max<uint64_t>(kPieceBytes, geometry_.region_size_bytes);
  if (stripes_) piece = kZeroesAtOnceBytes;
  bool discard = request->op == io::IoOp::kDiscard;
  uint64_t end = request->offset_bytes + request->length_bytes;
  for (uint64_t at = request->offset_bytes; at < end;) {
    uint64_t length = std::min(end, round_down(at, piece) + piece) - at;
    if (checked()) length = up_to_whole_blocks(at, length);
    io::IoRequest zeroes;
    zeroes.op = io::IoOp::kWriteZeroes;
    zeroes.offset_bytes = at;
    zeroes.length_bytes = length;
    zeroes.fua = request->fua;
    // Discarded bytes may read as anything, but they must read as the same thing on every member.
    zeroes.may_discard = discard || request->may_discard;
    BB_CO_TRY(stripes_ ? co_await write_stripes(&zeroes) : co_await write(&zeroes));
    at += length;
  }
  co_return Status();
}

io::Task<Status> ArrayCore::flush() {
  Result<uint64_t> flushed = co_await flush_members();
  co_return flushed.status();
}

io::Task<Result<uint64_t>> ArrayCore::flush_stripes() {
  uint64_t number = intent_.flush_begin();
  uint64_t asked = stripes_->writable_mask();
  BB_CO_TRY(co_await stripes_->flush());
  for (auto& member : members_) {
    if (!member->writable() || (asked & member->slot_bit()) == 0) continue;
    member->flushed_epoch = std::max(member->flushed_epoch, number);
  }
  if (!may_clean()) co_return uint64_t{0};
  intent_.flush_end(number);
  co_return number;
}

io::Task<Result<uint64_t>> ArrayCore::flush_members() {
  if (stripes_) co_return co_await flush_stripes();
  uint64_t number = intent_.flush_begin();
  FanOut fan(*this);
  // Recovering members too: what is flushed now must still be there when they are in-sync.
  for (auto& member : members_) {
    if (!member->writable()) continue;
    if (BB_MUTANT(kFlushOneMirror) && fan.count() > 0) continue;
    fan.add(*member, {.op = io::IoOp::kFlush});
  }
  co_await fan;
  bool all = true;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    all = all && leg.status.ok();
    if (leg.status.ok()) leg.member->flushed_epoch = std::max(leg.member->flushed_epoch, number);
  }
  MemberMask ok_mask;
  uint64_t slots = geometry_.shape.all_slots();
  Status status = judge(fan, slots, &ok_mask);
  if (BB_MUTANT(kFlushOneMirror)) ok_mask.set();
  BB_CO_TRY(status);
  BB_CO_TRY(co_await settle(ok_mask, slots, number));
  if (!all || !may_clean()) co_return uint64_t{0};
  intent_.flush_end(number);
  co_return number;
}

}  // namespace bb::raid
