// SPDX-License-Identifier: Apache-2.0
// A read of a stripe: from where its blocks lie, or worked out from the others.
#include <array>
#include <bit>

#include "raid/stripe_store.h"

namespace bb::raid {

io::Task<Status> StripeStore::read_piece(Piece piece, Bytes into) {
  const Shape& shape = layout_.shape;
  uint32_t row = map_.row_of(piece.stripe);
  IoBatch batch;
  struct Part {
    uint32_t block;
    uint64_t within_bytes;
    Bytes into;
    bool asked;
  };
  std::vector<Part> parts;
  for (uint64_t at = 0; at < piece.length_bytes;) {
    ChunkPiece one = first_piece(shape, piece.within_bytes + at, piece.length_bytes - at);
    auto block = static_cast<uint32_t>(one.chunk);
    Bytes target = into.subspan(at, one.length_bytes);
    uint32_t slot = block_slot(shape, row, block);
    bool readable = (members_.readable_mask() >> slot & 1) != 0;
    parts.push_back({block, one.within_bytes, target, readable});
    if (readable) batch.read(slot, members_.device(slot), place(row, one.within_bytes), target);
    at += one.length_bytes;
  }
  co_await batch;
  uint64_t bad_mask = note_failures(batch);
  for (const Part& part : parts) {
    bool bad = (bad_mask >> block_slot(shape, row, part.block) & 1) != 0;
    if (part.asked && !bad) continue;
    BB_CO_TRY(co_await read_around(row, part.block, part.within_bytes, part.into, bad_mask));
  }
  co_return Status();
}

// Works out one block from others. `bad_mask`: slots that have failed already.
io::Task<Status> StripeStore::read_around(uint32_t row, uint32_t block, uint64_t within_bytes,
                                          Bytes into, uint64_t bad_mask) {
  const Shape& shape = layout_.shape;
  for (;;) {
    uint64_t all = shape.all_slots();
    uint64_t lost_slots = all & (~members_.readable_mask() | bad_mask);
    uint64_t lost_blocks = blocks_of_slots(shape, row, lost_slots);
    if ((lost_blocks >> block & 1) == 0) {  // its member has come in meanwhile
      uint32_t slot = block_slot(shape, row, block);
      IoBatch batch;
      batch.read(slot, members_.device(slot), place(row, within_bytes), into);
      co_await batch;
      bad_mask |= note_failures(batch);
      if ((bad_mask >> slot & 1) == 0) co_return Status();
      continue;
    }
    if (std::popcount(lost_blocks) > static_cast<int>(shape.level->parity)) {
      co_return lost(map_.stripe_in(row), lost_slots);
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
      batch.read(slot, members_.device(slot), place(row, within_bytes), target);
    }
    co_await batch;
    uint64_t failed = note_failures(batch);
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
