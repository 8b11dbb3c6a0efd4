// SPDX-License-Identifier: Apache-2.0
// Copies of the same block that differ, or that one member cannot read, are made equal on the way
// of a read.
#include "raid/array_core.h"

namespace bb::raid {

bool ArrayCore::has_unequal(RegionRange regions) const {
  if (unequal_.empty() || BB_MUTANT(kReadUnequalRegion)) return false;
  return unequal_.any_in(regions.first, regions.count);
}

void ArrayCore::note_repair(const io::IoRequest& piece, FanOut::Leg& leg, bool may_suspect) {
  if (leg.status.ok()) {
    ++leg.member->repaired;
    log_warn("array \"{}\": {} could not read {} bytes at {} -> rewritten from another member",
             record_.name, name_of(*leg.member), piece.length_bytes, piece.offset_bytes);
  } else if (may_suspect) {
    suspect(*leg.member, fmt::format("rewriting {} unreadable bytes at {}: {}", piece.length_bytes,
                                     piece.offset_bytes, leg.status.to_string()));
  }
}

// Writes back what another member could read; the drive may then use a spare sector.
io::Task<bool> ArrayCore::repair(io::IoRequest* piece, MemberMask members_mask) {
  RegionRange regions = geometry_.range_of(piece->offset_bytes, piece->length_bytes);
  intent_.begin(regions);  // a torn repair is a difference like any other
  bool all = false;
  Status status = co_await persist(regions);
  if (status.ok() && checked()) status = co_await fetch_for_write(piece);
  if (status.ok()) {
    FanOut fan(*this);
    uint64_t slots = write_holders(fan, *piece, [&](const Member& member) {
      return members_mask.test(member.index) && member.readable();
    });
    co_await fan;
    MemberMask ok_mask;
    for (uint32_t i = 0; i < fan.count(); ++i) {
      fan.leg(i).member->written_epoch = intent_.epoch();
      if (fan.leg(i).status.ok()) ok_mask.set(fan.leg(i).member->index);
    }
    bool may_suspect = enough(ok_mask, slots);
    for (uint32_t i = 0; i < fan.count(); ++i) note_repair(*piece, fan.leg(i), may_suspect);
    all = ok_mask == members_mask;
  }
  intent_.end(regions);
  co_return all;
}

// Rule 6, for just the bytes that are read: from one member to all others, flushed everywhere, and
// whoever did not take it is gone by a committed change before anybody sees the bytes.
io::Task<Status> ArrayCore::read_unequal(io::IoRequest* request) {
  RangeHold hold(*this, request->offset_bytes, request->length_bytes, LockMode::kExclusive);
  co_await hold;
  co_return co_await read_unequal_held(request);
}

io::Task<Status> ArrayCore::read_unequal_held(io::IoRequest* request) {
  // The copy is a write, and its range may reach into a clean region: its bits are durable first.
  RegionRange regions = geometry_.range_of(request->offset_bytes, request->length_bytes);
  intent_.begin(regions);
  Status status = co_await persist(regions);
  Pieces pieces(geometry_.shape, *request);
  while (status.ok() && pieces.next()) status = co_await equalise(&pieces.request());
  if (status.ok()) {
    Result<uint64_t> flushed = co_await flush_members();
    status = flushed.status();
  }
  intent_.end(regions);
  co_return status;
}

// From a member that may be read (null: none could be) onto the others that are wanted. `ok_mask`:
// who has it then.
io::Task<Status> ArrayCore::copy_from_one(io::IoRequest* piece, Wanted wanted, Member** source,
                                          MemberMask* ok_mask) {
  Tried tried;
  BB_CO_TRY(co_await read_any(piece, &tried));
  *source = tried.served;
  if (checked()) BB_CO_TRY(co_await fetch_for_write(piece));
  FanOut fan(*this);
  uint64_t slots = (*source)->slot_bit();
  slots |= write_holders(fan, *piece, [&](const Member& member) {
    return member.writable() && &member != *source && wanted(member);
  });
  co_await fan;
  ok_mask->set((*source)->index);
  Status status = judge(fan, slots, ok_mask);
  for (uint32_t i = 0; i < fan.count(); ++i) {
    if (fan.leg(i).status.ok()) resynced_bytes_ += piece->length_bytes;
  }
  co_return status;
}

io::Task<Status> ArrayCore::equalise(io::IoRequest* piece) {
  bool again = true;
  Status status;
  while (again) status = co_await equalise_once(piece, &again);
  if (!blocks_may_do(status, piece->length_bytes)) co_return status;
  Pieces blocks(geometry_.shape, *piece, kCheckedBlockBytes);
  while (blocks.next()) BB_CO_TRY(co_await equalise(&blocks.request()));
  co_return Status();
}

// `again`: the source was lost on the way, another may do.
io::Task<Status> ArrayCore::equalise_once(io::IoRequest* piece, bool* again) {
  *again = false;
  if (checked()) co_return co_await agree(piece, again);
  Member* source = nullptr;
  MemberMask ok_mask;
  RegionRange regions = geometry_.range_of(piece->offset_bytes, piece->length_bytes);
  auto wanted = [regions](const Member& member) { return !member.lacks(regions); };
  Status status = co_await copy_from_one(piece, wanted, &source, &ok_mask);
  if (source == nullptr) co_return status;
  if (!source->required()) {
    *again = true;
    co_return fail(Code::k_unavailable, "the source of a copy was lost");
  }
  BB_CO_TRY(status);
  co_return co_await settle(ok_mask, slots_of(*piece));
}

}  // namespace bb::raid
