// SPDX-License-Identifier: Apache-2.0
// A read of a stripe: from where its blocks lie, or worked out from the others.
#include <array>
#include <bit>

#include "raid/stripe_store.h"

namespace bb::raid {

std::vector<StripeStore::Part> StripeStore::parts_of(const Piece& piece, Bytes into) const {
  std::vector<Part> parts;
  for (uint64_t at = 0; at < piece.length_bytes;) {
    ChunkPiece one = first_piece(layout_.shape, piece.within_bytes + at, piece.length_bytes - at);
    parts.push_back({.block = static_cast<uint32_t>(one.chunk),
                     .within_bytes = one.within_bytes,
                     .into = into.subspan(at, one.length_bytes)});
    at += one.length_bytes;
  }
  return parts;
}

io::Task<Status> StripeStore::read_piece(Piece piece, Bytes into) {
  for (;;) {
    if (in_doubt(piece.stripe)) (void)co_await prove_held(piece.stripe, nullptr);
    if (in_doubt(piece.stripe)) {  // some of it; what is asked for may be right
      for (const Part& part : parts_of(piece, into)) {
        BB_CO_TRY(co_await read_settled(piece.stripe, &part));
      }
      co_return Status();
    }
    Status status = co_await read_proved(&piece, into);
    if (!in_doubt(piece.stripe)) co_return status;
  }
}

io::Task<Status> StripeStore::read_settled(uint64_t stripe, const Part* part) {
  co_return co_await settle({.stripe = stripe,
                             .within_bytes = part->within_bytes,
                             .length_bytes = part->into.size(),
                             .into_block = part->block,
                             .into = part->into});
}

io::Task<Status> StripeStore::read_proved(const Piece* piece, Bytes into) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(piece->stripe);
  IoBatch batch;
  std::vector<Part> parts = parts_of(*piece, into);
  uint64_t avoided = members_.avoid_mask();
  if (!shape.survives(shape.all_slots() & (~members_.readable_mask() | avoided))) avoided = 0;
  for (Part& part : parts) {
    uint32_t slot = block_slot(shape, row, part.block);
    part.asked = ((members_.readable_mask() & ~avoided) >> slot & 1) != 0;
    if (!part.asked) continue;
    batch.read(slot, members_.device(slot), place(row, part.within_bytes), part.into);
  }
  co_await batch;
  uint64_t bad_mask = note_failures(batch);
  if (sums_ != nullptr && !co_await check(&batch, piece->stripe, &bad_mask)) co_return Status();
  for (const Part& part : parts) {
    bool bad = (bad_mask >> block_slot(shape, row, part.block) & 1) != 0;
    if (part.asked && !bad) continue;
    uint64_t bit = uint64_t{1} << block_slot(shape, row, part.block);
    Status elsewhere = error(Code::k_unavailable, "not avoided");
    if ((avoided & bit) != 0) elsewhere = co_await read_around(piece->stripe, &part, avoided);
    if (elsewhere.ok()) continue;
    if (part.asked && sums_ != nullptr) {
      BB_CO_TRY(co_await read_settled(piece->stripe, &part));
    } else {
      BB_CO_TRY(co_await read_around(piece->stripe, &part, sums_ == nullptr ? bad_mask : 0));
    }
  }
  co_return Status();
}

// Works out one block from others. `bad_mask`: slots that have failed already.
io::Task<Status> StripeStore::read_around(uint64_t stripe, const Part* part, uint64_t bad_mask) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(stripe);
  uint32_t block = part->block;
  Bytes into = part->into;
  for (;;) {
    uint64_t all = shape.all_slots();
    uint64_t lost_slots = all & (~members_.readable_mask() | bad_mask);
    uint64_t lost_blocks = blocks_of_slots(shape, row, lost_slots);
    if ((lost_blocks >> block & 1) == 0) {  // its member has come in meanwhile
      if (sums_ != nullptr) co_return co_await read_settled(stripe, part);
      uint32_t slot = block_slot(shape, row, block);
      IoBatch batch;
      batch.read(slot, members_.device(slot), place(row, part->within_bytes), into);
      co_await batch;
      bad_mask |= note_failures(batch);
      if ((bad_mask >> slot & 1) == 0) co_return Status();
      continue;
    }
    if (std::popcount(lost_blocks) > static_cast<int>(shape.level->parity)) {
      co_return lost(stripe, lost_slots);
    }
    BB_CO_ASSIGN(Reconstruction plan, Reconstruction::plan(code_, lost_blocks));
    size_t length = into.size();
    io::AlignedBuffer memory =
        io::AlignedBuffer::uncleared((plan.sources().size() + plan.lost().size()) * length);
    std::vector<const std::byte*> sources;
    IoBatch batch;
    for (uint32_t source : plan.sources()) {
      Bytes target = memory.bytes().subspan(sources.size() * length, length);
      sources.push_back(target.data());
      uint32_t slot = block_slot(shape, row, source);
      batch.read(slot, members_.device(slot), place(row, part->within_bytes), target);
    }
    co_await batch;
    uint64_t failed = note_failures(batch);
    if (sums_ != nullptr) {
      if (!co_await check(&batch, stripe, &failed)) co_return Status();
      if (failed != 0) co_return co_await read_settled(stripe, part);
    }
    bad_mask |= failed;
    if (failed != 0) continue;
    std::array<std::byte*, kParityMax> made{};
    for (size_t i = 0; i < plan.lost().size(); ++i) {
      made[i] = memory.data() + (sources.size() + i) * length;
    }
    plan.run(sources.data(), made.data(), length);
    for (size_t i = 0; i < plan.lost().size(); ++i) {
      if (plan.lost()[i] == block) std::memcpy(into.data(), made[i], length);
    }
    co_return Status();
  }
}

}  // namespace bb::raid
