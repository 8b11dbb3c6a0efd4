// SPDX-License-Identifier: Apache-2.0
// A write of a stripe: as a whole to a free row, or a part of it in place, behind the journal.
#include <array>
#include <bit>

#include "base/crc32c.h"
#include "base/mutant.h"
#include "raid/stripe_store.h"

namespace bb::raid {

// A write of a part of a stripe: its bands, with the memory that they are worked out in.
class StripeStore::Work {
 public:
  struct Stretch {
    Band band;
    BandPlan plan;
    std::array<std::byte*, kMembersMax> old{};   // by block; null: not read
    std::array<std::byte*, kMembersMax> made{};  // by block; null: does not change, or is away
    std::byte* parity = nullptr;                 // P and Q
    std::byte* scratch = nullptr;
    io::AlignedBuffer memory;                     // of old
    std::array<uint32_t, kMembersMax> checksums;  // CRC-32C of made, of what changes
  };

  Work(const StripeStore& store, Piece what, ConstBytes from)
      : piece(what), row(store.map_.row_of(what.stripe)) {
    const Shape& shape = store.layout_.shape;
    // The host's own memory goes to the members, unless the arithmetic wants it elsewhere.
    bool aligned = reinterpret_cast<uintptr_t>(from.data()) % kParityAlignBytes == 0;
    size_t bytes = aligned ? 0 : from.size();
    size_t own = shape.level->parity + kBandScratchBlocks;
    for (const Band& band : bands_of(shape, piece.within_bytes, piece.length_bytes)) {
      stretches.push_back({.band = band});
      bytes += own * band.length_bytes;
    }
    memory = io::AlignedBuffer::uncleared(bytes);
    std::byte* next = memory.data();
    auto* data = const_cast<std::byte*>(from.data());
    if (!aligned) {
      data = next;
      next += from.size();
      std::memcpy(data, from.data(), from.size());
    }
    for (Stretch& one : stretches) {
      size_t length = one.band.length_bytes;
      one.parity = next;
      one.scratch = next + shape.level->parity * length;
      next += own * length;
      for (uint32_t block = 0; block < shape.data_chunks(); ++block) {
        if ((one.band.written_mask >> block & 1) == 0) continue;
        uint64_t at = block * shape.chunk_bytes + one.band.within_bytes - piece.within_bytes;
        one.made[block] = data + at;
      }
    }
  }

  Piece piece;
  uint32_t row;
  std::vector<Stretch> stretches;
  io::AlignedBuffer memory;
  uint64_t bad_mask = 0;  // slots that could not be read
  bool settled = false;   // what was not right has been made so, as far as it can be
  PinnedSums pinned;
  uint64_t away_mask = 0;
};

io::Task<Status> StripeStore::write_piece(Piece piece, ConstBytes from) {
  if (piece.length_bytes == stripe_bytes()) {
    co_return co_await write_whole(piece.stripe, from);
  }
  co_return co_await write_part(piece, from);
}

io::Task<Status> StripeStore::write_whole(uint64_t stripe, ConstBytes from) {
  const Shape& shape = layout_.shape;
  std::optional<uint32_t> row = map_.take_row(map_.row_of(stripe));
  while (!row) {
    BB_CO_TRY(co_await write_pages());
    row = map_.take_row(map_.row_of(stripe));
    if (row) break;
    // Whoever took what was freed moves a stripe there, and frees another.
    rows_freed_.reset();
    if (!map_.batch_wanted()) co_await rows_freed_.wait();
  }
  uint64_t chunk = shape.chunk_bytes;
  uint32_t data = shape.data_chunks();
  // The host's own memory goes to the members, unless the arithmetic wants it elsewhere.
  bool aligned = reinterpret_cast<uintptr_t>(from.data()) % kParityAlignBytes == 0;
  uint32_t own = aligned ? shape.level->parity : shape.members;
  io::AlignedBuffer memory = io::AlignedBuffer::uncleared(own * chunk);
  std::vector<std::byte*> blocks(shape.members);
  for (uint32_t i = 0; i < shape.members; ++i) {
    bool given = aligned && i < data;
    blocks[i] = given ? const_cast<std::byte*>(from.data()) + i * chunk
                      : memory.data() + (aligned ? i - data : i) * chunk;
  }
  if (!aligned) std::memcpy(memory.data(), from.data(), from.size());
  code_.encode(blocks.data(), blocks.data() + data, chunk);
  PinnedSums pinned;
  if (sums_ != nullptr) {
    co_await fetch_all(shape.all_slots(), *row * chunk, chunk, &pinned);
    for (uint32_t block = 0; block < shape.members; ++block) {
      record(block_slot(shape, *row, block), *row * chunk, ConstBytes{blocks[block], chunk});
    }
  }
  IoBatch batch;
  for (uint32_t block = 0; block < shape.members; ++block) {
    uint32_t slot = block_slot(shape, *row, block);
    if ((members_.writable_mask() >> slot & 1) == 0) continue;
    batch.write(slot, members_.device(slot), place(*row, 0), {blocks[block], chunk}, false);
  }
  co_await batch;
  uint64_t lacking = note_lacking(batch);
  Status status = co_await members_.settle(lacking);
  if (!status.ok()) {
    map_.give_back(*row);
    rows_freed_.set();
    co_return status;
  }
  map_.move(stripe, *row);
  rows_freed_.set();
  unproved_.clear(stripe);
  doubtful_.clear(stripe);
  // A host may outlive us, and would never write again what was acknowledged: it is found there
  // after a crash of this process too, though nobody flushed.
  if (BB_MUTANT(kAckBeforePage)) co_return status;
  status = co_await write_page_of(stripe);
  if (!status.ok()) leave_undecided(stripe, status);  // recover() finds the page, or the one before
  co_return status;
}

// Until all that the plans want has been read: who cannot be read is done without.
io::Task<Status> StripeStore::read_old(Work* work) {
  const Shape& shape = layout_.shape;
  uint64_t all = shape.all_slots();
  for (;;) {
    work->away_mask = all & ~members_.writable_mask();
    uint64_t unreadable = (all & ~members_.readable_mask() & ~work->away_mask) | work->bad_mask;
    uint64_t lost_slots = work->away_mask | unreadable;
    if (std::popcount(lost_slots) > static_cast<int>(shape.level->parity)) {
      co_return lost(work->piece.stripe, lost_slots);
    }
    IoBatch batch;
    for (Work::Stretch& one : work->stretches) {
      size_t length = one.band.length_bytes;
      one.plan = plan_band(shape, one.band, blocks_of_slots(shape, work->row, work->away_mask),
                           blocks_of_slots(shape, work->row, unreadable & ~work->away_mask));
      one.old.fill(nullptr);
      one.memory = io::AlignedBuffer::uncleared(
          static_cast<size_t>(std::popcount(one.plan.read_mask)) * length);
      std::byte* next = one.memory.data();
      for (uint32_t block = 0; block < shape.members; ++block) {
        if ((one.plan.read_mask >> block & 1) == 0) continue;
        one.old[block] = next;
        next += length;
        uint32_t slot = block_slot(shape, work->row, block);
        batch.read(slot, members_.device(slot), place(work->row, one.band.within_bytes),
                   {one.old[block], length});
      }
    }
    co_await batch;
    uint64_t failed = note_failures(batch);
    bool compared = sums_ != nullptr && !BB_MUTANT(kModifyUnchecked);
    if (compared && !co_await check(&batch, work->piece.stripe, &failed)) co_return Status();
    if (failed == 0) co_return Status();
    if (sums_ != nullptr && !work->settled) {
      work->settled = true;
      (void)co_await settle_bands(work);
    } else {
      work->bad_mask |= failed;
    }
  }
}

io::Task<Status> StripeStore::settle_bands(Work* work) {
  for (const Work::Stretch& one : work->stretches) {
    BB_CO_TRY(co_await settle({.stripe = work->piece.stripe,
                               .within_bytes = one.band.within_bytes,
                               .length_bytes = one.band.length_bytes}));
  }
  co_return Status();
}

// Nothing is worked out from blocks of which it is not known that they are right.
io::Task<Status> StripeStore::read_proved_old(Work* work) {
  uint64_t stripe = work->piece.stripe;
  uint64_t place = work->row * layout_.shape.chunk_bytes;
  for (const Work::Stretch& one : work->stretches) {
    co_await fetch_all(layout_.shape.all_slots(), place + one.band.within_bytes,
                       one.band.length_bytes, &work->pinned);
  }
  for (;;) {
    if (in_doubt(stripe)) (void)co_await prove_held(stripe, nullptr);
    if (in_doubt(stripe)) BB_CO_TRY(co_await settle_bands(work));
    bool doubted = in_doubt(stripe);
    Status status = co_await read_old(work);
    if (doubted || !in_doubt(stripe)) co_return status;
  }
}

// Before it goes in place: nobody reads it meanwhile, and who does not take it does not count.
void StripeStore::record_parts(const Work& work) {
  uint64_t row = work.row * layout_.shape.chunk_bytes;
  for (const Work::Stretch& one : work.stretches) {
    for (uint32_t block = 0; block < layout_.shape.members; ++block) {
      if ((one.plan.change_mask >> block & 1) == 0) continue;
      uint32_t slot = block_slot(layout_.shape, work.row, block);
      uint64_t place = row + one.band.within_bytes;
      if (one.band.length_bytes == kCheckedBlockBytes) {
        uint32_t sum = checksum_of_crc(one.checksums[block]);
        record(slot, place, std::span<const uint32_t>(&sum, 1));
      } else {
        record(slot, place, ConstBytes{one.made[block], one.band.length_bytes});
      }
    }
  }
}

// What changes, with new parity.
std::vector<StripeJournal::Part> StripeStore::encode_parts(Work* work) {
  const Shape& shape = layout_.shape;
  std::vector<StripeJournal::Part> parts;
  parts.reserve(work->stretches.size() * (1 + shape.level->parity));
  for (Work::Stretch& one : work->stretches) {
    size_t length = one.band.length_bytes;
    for (uint32_t block = shape.data_chunks(); block < shape.members; ++block) {
      bool there = (one.plan.change_mask >> block & 1) != 0;
      std::byte* own = one.parity + (block - shape.data_chunks()) * length;
      if (one.plan.mode == BandMode::kModify) own = one.old[block];
      one.made[block] = there ? own : nullptr;
    }
    encode_band(code_, one.band, one.plan, one.old, one.made,
                {one.scratch, kBandScratchBlocks * length});
    for (uint32_t block = 0; block < shape.members; ++block) {
      if ((one.plan.change_mask >> block & 1) == 0) continue;
      ConstBytes bytes{one.made[block], length};
      one.checksums[block] = layout_.ring_bytes != 0 ? crc32c(bytes) : 0;
      parts.push_back({block_slot(shape, work->row, block), one.band.within_bytes, bytes,
                       one.checksums[block]});
    }
  }
  return parts;
}

io::Task<Status> StripeStore::write_part(Piece piece, ConstBytes from) {
  Work work(*this, piece, from);
  BB_CO_TRY(sums_ != nullptr ? co_await read_proved_old(&work) : co_await read_old(&work));
  // An entry that leaves somebody out is not for a recovery in which he counts again.
  if (!BB_MUTANT(kLeaveOut)) BB_CO_TRY(co_await members_.settle(work.away_mask));
  std::vector<StripeJournal::Part> parts = encode_parts(&work);
  uint64_t touched = 0;
  for (const StripeJournal::Part& part : parts) touched |= uint64_t{1} << part.slot;
  uint64_t lacking = 0;
  uint64_t seq = 0;
  bool journal = layout_.ring_bytes != 0 && !BB_MUTANT(kNoJournal);
  if (!journal) co_return co_await put_in_place(&work, 0);
  if (BB_MUTANT(kInPlaceEarly)) BB_CO_TRY(co_await put_in_place(&work, 0));
  BB_CO_TRY(co_await journal_.put(work.row, std::move(parts), &seq, &lacking));
  Status status;
  if (lacking == touched && touched != 0) {
    status = error(Code::k_unavailable, "stripe {}: no member took the write", piece.stripe);
  } else {
    // Who lacks the entry must not count any more before anything is in place.
    if (!BB_MUTANT(kSettleLate)) status = co_await members_.settle(lacking);
    if (status.ok() && sums_ != nullptr) record_parts(work);
    if (status.ok()) status = co_await put_in_place(&work, lacking);
  }
  if (status.ok()) {
    journal_.done(seq);
  } else {
    leave_undecided(piece.stripe, status);  // recover() does it again, or drops it
  }
  co_return status;
}

io::Task<Status> StripeStore::put_in_place(Work* work, uint64_t lacking_mask) {
  IoBatch batch;
  uint64_t missed = work->away_mask;
  uint64_t takes = members_.writable_mask() & ~lacking_mask;
  for (const Work::Stretch& one : work->stretches) {
    for (uint32_t block = 0; block < layout_.shape.members; ++block) {
      if ((one.plan.change_mask >> block & 1) == 0) continue;
      if (BB_MUTANT(kParityOfOne) && block > layout_.shape.data_chunks()) continue;
      uint32_t slot = block_slot(layout_.shape, work->row, block);
      if ((takes >> slot & 1) == 0) {
        missed |= uint64_t{1} << slot;
        continue;
      }
      batch.write(slot, members_.device(slot), place(work->row, one.band.within_bytes),
                  {one.made[block], one.band.length_bytes}, false);
    }
  }
  co_await batch;
  missed |= note_failures(batch);
  co_return co_await members_.settle(missed);
}

}  // namespace bb::raid
