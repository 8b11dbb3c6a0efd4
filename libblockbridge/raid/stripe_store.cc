// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_store.h"

#include "base/mutant.h"
#include "raid/stripe_hold.h"

namespace bb::raid {

StripeStore::StripeStore(io::Loop& loop, StripeLayout layout, StripeMembers& members,
                         StripeSums* sums)
    : loop_(loop),
      layout_(layout),
      members_(members),
      sums_(sums),
      code_(layout.shape.data_chunks(), layout.shape.level->parity),
      map_(layout.array, layout.stripes, layout.rows),
      journal_(loop, layout_, members),
      unproved_(layout.stripes),
      doubtful_(layout.stripes),
      pages_mutex_(loop),
      rows_freed_(loop) {}

StripeStore::~StripeStore() {
  BB_CHECK(stripes_.idle(), "a store of stripes ends with I/O in flight");
}

io::Task<Status> StripeStore::start(Uuid life) {
  journal_.start(life);
  if (map_.batch_wanted()) co_return co_await write_pages();
  co_return Status();
}

io::Task<void> StripeStore::stop() { co_await journal_.stop(); }

uint64_t StripeStore::size_bytes() const { return layout_.stripes * stripe_bytes(); }

std::vector<StripeStore::Piece> StripeStore::pieces_of(uint64_t offset_bytes,
                                                       uint64_t length_bytes) const {
  std::vector<Piece> pieces;
  for (uint64_t at = 0; at < length_bytes;) {
    uint64_t within = (offset_bytes + at) % stripe_bytes();
    uint64_t length = std::min(length_bytes - at, stripe_bytes() - within);
    pieces.push_back({(offset_bytes + at) / stripe_bytes(), within, length, at});
    at += length;
  }
  return pieces;
}

// All stripes at once: none of them waits for another, and what moves together shares a page.
io::Task<Status> StripeStore::for_all(const std::vector<Piece>* pieces, PieceOperation operation) {
  Status status;
  if (pieces->size() == 1) {
    co_await operation(pieces->front(), &status);
    co_return status;
  }
  io::TaskGroup group(loop_);
  std::vector<Status> results(pieces->size());
  for (size_t i = 0; i < pieces->size(); ++i) group.spawn(operation((*pieces)[i], &results[i]));
  co_await group.join();
  for (Status& result : results) {
    if (!result.ok()) co_return std::move(result);
  }
  co_return status;
}

io::Task<void> StripeStore::read_held(Piece piece, Bytes into, Status* status) {
  Hold hold(*this, piece.stripe, io::LockMode::kShared);
  co_await hold;
  // What is read now must be read ever after.
  if (undecided_.contains(piece.stripe)) {
    *status = journal_.stuck();
    co_return;
  }
  *status = co_await read_piece(piece, into.subspan(piece.at_bytes, piece.length_bytes));
}

io::Task<void> StripeStore::write_held(Piece piece, ConstBytes from, Status* status) {
  *status = journal_.stuck();
  if (!status->ok()) co_return;
  Hold hold(*this, piece.stripe, io::LockMode::kExclusive);
  co_await hold;
  *status = co_await write_piece(piece, from.subspan(piece.at_bytes, piece.length_bytes));
}

io::Task<Status> StripeStore::read(uint64_t offset_bytes, Bytes into) {
  std::vector<Piece> pieces = pieces_of(offset_bytes, into.size());
  co_return co_await for_all(&pieces, [this, into](Piece piece, Status* status) {
    return read_held(piece, into, status);
  });
}

io::Task<Status> StripeStore::write(uint64_t offset_bytes, ConstBytes from, bool fua) {
  std::vector<Piece> pieces = pieces_of(offset_bytes, from.size());
  BB_CO_TRY(co_await for_all(&pieces, [this, from](Piece piece, Status* status) {
    return write_held(piece, from, status);
  }));
  if (fua) co_return co_await flush();
  co_return Status();
}

Status StripeStore::lost(uint64_t stripe, uint64_t lost_mask) const {
  return error(Code::k_unavailable, "stripe {}: members {:x} cannot be read, and RAID {} has {} {}",
               stripe, lost_mask, layout_.shape.level->name, layout_.shape.level->parity,
               layout_.shape.level->parity == 1 ? "parity" : "parities");
}

// No other write follows, and nobody reads it, until recover() has decided.
void StripeStore::leave_undecided(uint64_t stripe, const Status& why) {
  undecided_.insert(stripe);
  journal_.stuck(why);
}

// A member that could not read a sector may well have the others: it stays. Returns the slots.
uint64_t StripeStore::note_failures(IoBatch& batch) {
  uint64_t mask = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const IoBatch::Leg& leg = batch.leg(i);
    if (leg.status.ok()) continue;
    mask |= uint64_t{1} << leg.slot;
    if (leg.op != io::IoOp::kRead || !is_medium_error(leg.status))
      members_.failed(leg.slot, leg.status);
  }
  return mask;
}

// Also those that were asked nothing, because they had failed before: all slots that lack it.
uint64_t StripeStore::note_lacking(IoBatch& batch) {
  uint64_t taken = 0;
  for (size_t i = 0; i < batch.size(); ++i) taken |= uint64_t{1} << batch.leg(i).slot;
  return ~taken | note_failures(batch);
}

// --- flushing

io::Task<Status> StripeStore::flush() {
  if (map_.batch_wanted() || map_.in_batch()) co_return co_await write_pages();
  co_return co_await journal_.flush();
}

// What moved is durable where it lies, then the pages say so, then the rows of before are free. The
// journal's entries for those rows have ended by then, and the pages say that too.
io::Task<Status> StripeStore::write_pages() {
  auto held = co_await pages_mutex_.scoped();
  if (!map_.batch_wanted()) co_return co_await journal_.flush();
  co_return co_await write_pages_alone();
}

// Stripes that move together share a batch.
io::Task<Status> StripeStore::write_page_of(uint64_t stripe) {
  auto held = co_await pages_mutex_.scoped();
  if (!map_.page_wanted(stripe)) co_return Status();
  co_return co_await write_pages_alone();
}

io::Task<Status> StripeStore::write_pages_alone() {
  std::vector<uint32_t> pages = map_.batch_begin();
  Status status = co_await journal_.all_done();
  if (status.ok() && !BB_MUTANT(kPageUnflushed)) status = co_await journal_.flush();
  if (status.ok()) {
    io::AlignedBuffer bytes(pages.size() * kStripePageBytes);
    IoBatch batch;
    uint64_t first_seq = BB_MUTANT(kPageForgets) ? 0 : journal_.first_seq();
    for (size_t i = 0; i < pages.size(); ++i) {
      Bytes page = bytes.bytes().subspan(i * kStripePageBytes, kStripePageBytes);
      StripePageHead head = map_.encode(pages[i], journal_.life(), first_seq, page);
      uint64_t at = layout_.map_offset_bytes + stripe_page_offset_bytes(pages[i], head.generation);
      for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
        if ((members_.writable_mask() >> slot & 1) == 0) continue;
        batch.write(slot, members_.device(slot), at, page, true);
      }
    }
    co_await batch;
    status = co_await members_.settle(note_lacking(batch));
  }
  map_.batch_end(status.ok());
  rows_freed_.set();
  co_return status;
}

}  // namespace bb::raid
