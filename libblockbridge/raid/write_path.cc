// SPDX-License-Identifier: Apache-2.0
// How a write reaches every member: bitmap, then data, then the acknowledgement.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

io::Task<Status> ArrayCore::write(Write write) {
  RegionRange regions = geometry_.range_of(write.io.offset_bytes, write.io.length_bytes);
  RangeHold hold(*this, write.io.offset_bytes, write.io.length_bytes, LockMode::kExclusive);
  co_await hold;
  intent_.begin(regions);
  Status status = co_await write_locked(write, regions);
  intent_.end(regions);
  co_return status;
}

io::Task<Status> ArrayCore::write_locked(Write write, RegionRange regions) {
  if (BB_MUTANT(kBitmapAfterData)) {
    BB_CO_TRY(co_await write_members(write, regions));
    co_return co_await persist(regions);
  }
  // Rule 1. Until the bits are durable no member has seen a byte of the data.
  if (!intent_.durable(regions)) BB_CO_TRY(co_await persist(regions));
  Status status = co_await write_members(write, regions);
  if (!status.ok()) after_failed_write(regions);
  co_return status;
}

// The host was told that the write failed, so it may have happened on some members only. Reads of
// it make the members equal first, as after an unclean stop.
void ArrayCore::after_failed_write(RegionRange regions) {
  unequal_.set_range(regions.first, regions.count);
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

io::Task<Status> ArrayCore::write_members(Write write, RegionRange regions) {
  FanOut fan(*this);
  FanOut::Io io = write.io;
  io.offset_bytes += geometry_.data_offset_bytes;
  for (auto& member : members_) {
    if (!member->writable()) continue;
    if (BB_MUTANT(kWriteOneMirror) && fan.count() > 0) continue;
    fan.add(*member, io);
  }
  co_await fan;

  uint64_t ok_mask = 0;
  bool in_sync_ok = false;
  const FanOut::Leg* bad = nullptr;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    Member& member = *leg.member;
    member.written_epoch =
        intent_.epoch();  // also a failed write may have left something unflushed
    if (!leg.status.ok()) {
      bad = &leg;
      continue;
    }
    ok_mask |= member.bit();
    ++member.writes;
    in_sync_ok |= member.required();
  }
  if (BB_MUTANT(kWriteOneMirror)) ok_mask = ~uint64_t{0};
  if (!in_sync_ok) {
    // Nobody who counts has it. The members keep their states (one of them must), but what a
    // recovering one got may differ from them now: the caller marks the regions.
    if (bad == nullptr) {
      co_return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
    }
    co_return bad->status.with_context(name_of(*bad->member));
  }
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (!leg.status.ok()) suspect(*leg.member, leg.status.to_string());
  }
  // Rule 3.
  Member* lacking = nullptr;
  if (settled(ok_mask, &lacking) && fenced_.empty()) co_return Status();
  (void)regions;
  co_return co_await settle(ok_mask);
}

// Long ranges go piece by piece, so that none holds up the bitmap or other writes for long.
io::Task<Status> ArrayCore::write_zeroes(io::IoRequest* request) {
  constexpr uint64_t kPieceBytes = 64 * MiB;
  uint64_t piece = std::max<uint64_t>(kPieceBytes, geometry_.region_size_bytes);
  bool discard = request->op == io::IoOp::kDiscard;
  uint64_t end = request->offset_bytes + request->length_bytes;
  for (uint64_t at = request->offset_bytes; at < end;) {
    uint64_t length = std::min(end, round_down(at, piece) + piece) - at;
    Write zeroes;
    zeroes.io.op = io::IoOp::kWriteZeroes;
    zeroes.io.offset_bytes = at;
    zeroes.io.length_bytes = length;
    zeroes.io.fua = request->fua;
    // Discarded bytes may read as anything, but they must read as the same thing on every member.
    zeroes.io.may_discard = discard || request->may_discard;
    BB_CO_TRY(co_await write(zeroes));
    at += length;
  }
  co_return Status();
}

io::Task<Status> ArrayCore::flush() {
  Result<uint64_t> flushed = co_await flush_members();
  co_return flushed.status();
}

io::Task<Result<uint64_t>> ArrayCore::flush_members() {
  uint64_t number = intent_.flush_begin();
  FanOut fan(*this);
  // Recovering members too: what is flushed now must still be there when they are in-sync.
  for (auto& member : members_) {
    if (!member->writable()) continue;
    if (BB_MUTANT(kFlushOneMirror) && fan.count() > 0) continue;
    fan.add(*member, {.op = io::IoOp::kFlush});
  }
  co_await fan;
  uint64_t ok_mask = 0;
  bool in_sync_ok = false;
  const FanOut::Leg* bad = nullptr;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (!leg.status.ok()) {
      bad = &leg;
      continue;
    }
    leg.member->flushed_epoch = std::max(leg.member->flushed_epoch, number);
    ok_mask |= leg.member->bit();
    in_sync_ok |= leg.member->required();
  }
  if (BB_MUTANT(kFlushOneMirror)) ok_mask = ~uint64_t{0};
  if (!in_sync_ok) {
    if (bad == nullptr)
      co_return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
    co_return bad->status.with_context(name_of(*bad->member));
  }
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (!leg.status.ok()) suspect(*leg.member, leg.status.to_string());
  }
  BB_CO_TRY(co_await settle(ok_mask, number));
  if (bad != nullptr || !may_clean()) co_return uint64_t{0};
  intent_.flush_end(number);
  co_return number;
}

}  // namespace bb::raid
