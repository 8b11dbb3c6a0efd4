// SPDX-License-Identifier: Apache-2.0
// A read: from any member the record calls in-sync; repaired from another; never back in time.
#include <array>

#include "raid/array_core.h"

namespace bb::raid {

io::Task<Status> ArrayCore::read(io::IoRequest* request) {
  if (checked() && !whole_blocks(*request)) co_return co_await read_parts(request);
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
  Status status = co_await read_held(request);
  if (status.ok() || !has_unequal(regions)) co_return status;
  hold.unlock();  // its checksums were damaged: what the copies agree on counts
  co_return co_await read_unequal(request);
}

// A stripe's lock is that of its reads.
io::Task<Status> ArrayCore::read_stripes(io::IoRequest* request) {
  if (checked() && !whole_blocks(*request)) co_return co_await read_parts(request);
  co_return co_await stripes_->read(request);
}

// `tried`: of a piece.
io::Task<Status> ArrayCore::read_held(io::IoRequest* request, Tried tried) {
  bool piece = is_piece(geometry_.shape, *request);
  Status status =
      piece ? co_await read_piece(request, {}, std::move(tried)) : co_await read_pieces(request);
  if (!blocks_may_do(status, request->length_bytes)) co_return status;
  Pieces blocks(geometry_.shape, *request, kCheckedBlockBytes);
  while (blocks.next()) BB_CO_TRY(co_await read_piece(&blocks.request(), {}));
  co_return Status();
}

// All at once; if anything is amiss, piece by piece.
io::Task<Status> ArrayCore::read_pieces(io::IoRequest* request) {
  MemberMask failed;
  if (co_await read_runs(request, &failed)) co_return Status();
  Pieces pieces(geometry_.shape, *request);
  while (pieces.next()) BB_CO_TRY(co_await read_piece(&pieces.request(), failed));
  co_return Status();
}

// True when every member that was asked has answered as one that may.
io::Task<bool> ArrayCore::read_runs(io::IoRequest* request, MemberMask* failed) {
  FanOut fan(*this);
  MemberRuns runs;
  Pieces pieces(geometry_.shape, *request);
  while (pieces.next()) {
    uint64_t place = 0;
    uint64_t length = pieces.request().length_bytes;
    Member* member = choose_holder(pieces.request().offset_bytes, {}, &place);
    if (member == nullptr) co_return false;
    member->last_end_bytes = place + length;
    runs.add(*member, place, length, pieces.memory());
  }
  runs.add_to(fan, *request, geometry_.data_offset_bytes);
  co_await fan;
  bool all = fenced_.empty();
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (checked() && leg.status.ok()) {
      leg.status = co_await verify(leg.member, leg.offset_bytes - geometry_.data_offset_bytes,
                                   {leg.iov, leg.iov_count});
    }
    all = all && leg.status.ok() && leg.member->readable();
    if (leg.status.ok()) ++leg.member->reads;
    if (!leg.status.ok()) failed->set(leg.member->index);
  }
  co_return all;
}

// `first` are asked first: one of them could not read something, and that is to be found and
// mended.
io::Task<Status> ArrayCore::read_piece(io::IoRequest* piece, MemberMask first, Tried tried) {
  Status status = co_await read_any(piece, &tried, first);
  if (status.ok() && tried.bad.any()) (void)co_await repair(piece, tried.bad);
  co_return status;
}

// Null: nobody is left who may be read.
Member* ArrayCore::choose_holder(uint64_t offset_bytes, const MemberMask& tried,
                                 uint64_t* place_bytes) {
  constexpr uint32_t kHoldersMax = 8;  // the most copies of any level
  std::array<ReadCandidate, kHoldersMax> candidates;
  std::array<std::pair<Member*, uint64_t>, kHoldersMax> who;
  uint32_t count = 0;
  for_each_holder(offset_bytes, [&](Member& member, uint64_t place) {
    bool may_read = member.readable() || (BB_MUTANT(kReadStaleMember) && member.writable());
    if (!may_read || tried.test(member.index) || count == kHoldersMax) return;
    who[count] = {&member, place};
    candidates[count++] = {.usable = true,
                           .goes_on = member.last_end_bytes == place,
                           .in_flight = member.in_flight,
                           .avoided = member.pace.avoid()};
  });
  uint32_t choice = choose_read_member({candidates.data(), count}, rotation_++);
  if (choice == kNoCandidate) return nullptr;
  *place_bytes = who[choice].second;
  return who[choice].first;
}

// Somebody may have been promoted: once the authority has answered, it may be read.
bool ArrayCore::perhaps_another(uint64_t offset_bytes, const MemberMask& tried) {
  bool perhaps = false;
  for_each_holder(offset_bytes, [&](const Member& member, uint64_t) {
    perhaps = perhaps || (record_unknown_ && member.promoting && member.writable() &&
                          !tried.test(member.index));
  });
  return perhaps;
}

// Whoever stopped being in-sync meanwhile, or lost writes, has not answered.
Status ArrayCore::as_answered(const Member& member, Status status) const {
  if (status.ok() && !BB_MUTANT(kIgnoreIncarnation) && member.lost()) {
    return error(Code::k_unavailable, "the connection was lost");
  }
  if (status.ok() && !member.readable() && !BB_MUTANT(kReadStaleMember)) {
    return error(Code::k_unavailable, "it is no longer in-sync");
  }
  return status;
}

void ArrayCore::note_unread(Member& member, const Status& status, Tried* tried) {
  ++member.errors;
  tried->asked.set(member.index);
  if (is_medium_error(status) && member.readable()) {
    tried->bad.set(member.index);
  } else {
    suspect(member, status.to_string());
  }
  tried->last = status.with_context(name_of(member));
}

// Tries in-sync members until one answers.
io::Task<Status> ArrayCore::read_any(io::IoRequest* piece, Tried* tried, MemberMask first) {
  MemberMask later = first.any() ? ~first : MemberMask();
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  for (;;) {
    uint64_t place = 0;
    Member* chosen = choose_holder(piece->offset_bytes, tried->asked | later, &place);
    if (chosen == nullptr && later.any()) {
      later.reset();
      continue;
    }
    if (chosen == nullptr) {
      BB_CO_TRY(usable());
      if (perhaps_another(piece->offset_bytes, tried->asked) &&
          co_await changed_.wait_until(deadline_ns)) {
        continue;
      }
      BB_CO_TRY(tried->last);
      co_return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
    }
    Member& member = *chosen;
    tried->asked.set(member.index);
    ++member.in_flight;
    member.last_end_bytes = place + piece->length_bytes;
    Status status = co_await member.device->readv(geometry_.data_offset_bytes + place, piece->iov,
                                                  piece->iov_count, piece->length_bytes);
    if (status.ok() && checked()) {
      status = co_await verify(&member, place, {piece->iov, piece->iov_count});
    }
    --member.in_flight;
    status = as_answered(member, std::move(status));
    if (!fenced_.empty()) co_return usable();
    if (status.ok()) {
      ++member.reads;
      tried->served = &member;
      co_return status;
    }
    note_unread(member, status, tried);
  }
}

}  // namespace bb::raid
