// SPDX-License-Identifier: Apache-2.0
// Where copies may differ from each other or from what is recorded of them (after a crash, or when
// checksums were damaged), each block is settled: what most copies hold, of equals the one that a
// checksum knows. Else, where a write was under way, the first, for old and new are both right;
// where none was, nothing is guessed.
#include <algorithm>

#include "raid/array_core.h"
#include "raid/copies.h"

namespace bb::raid {
namespace {

using Copy = CopyOfPiece;

bool known(const std::vector<Copy>& copies, uint32_t sum, size_t i) {
  return std::ranges::any_of(
      copies, [sum, i](const Copy& copy) { return copy.read && copy.recorded[i] == sum; });
}

// Which copy of block `i` counts. Null, where no write was under way: nothing decides.
const Copy* settle_block(const std::vector<Copy>& copies, size_t i, bool was_written) {
  const Copy* best = nullptr;
  int64_t best_votes = -1;
  bool tie = false;
  for (const Copy& copy : copies) {
    if (!copy.read) continue;
    int64_t votes = 0;
    for (const Copy& other : copies) votes += other.read && other.same(copy, i) ? 2 : 0;
    votes += known(copies, copy.found.values()[i], i) ? 1 : 0;
    if (BB_MUTANT(kAgreeBlindly)) votes = 0;
    if (votes == best_votes && !copy.same(*best, i)) tie = true;
    if (votes <= best_votes) continue;
    best = &copy;
    best_votes = votes;
    tie = false;
  }
  if (was_written) return best;
  bool proved = best_votes >= 3;  // a checksum knows it, or two copies say the same
  return tie || !proved ? nullptr : best;
}

// False: of one block nothing decides.
bool settle_all(std::vector<Copy>& copies, const io::IoRequest& piece, bool was_written) {
  for (size_t i = 0; i < piece.length_bytes / kCheckedBlockBytes; ++i) {
    const Copy* right = settle_block(copies, i, was_written);
    if (right == nullptr) return false;
    io::iov_scatter(piece.iov, piece.iov_count, i * kCheckedBlockBytes, right->block(i));
    for (Copy& copy : copies) {
      copy.differs = copy.differs || !copy.read || !copy.same(*right, i);
    }
  }
  return true;
}

}  // namespace

// `piece` gets what was settled, and so do those who hold something else. `again`: one who was
// asked was lost on the way.
io::Task<Status> ArrayCore::agree(io::IoRequest* piece, bool* again) {
  *again = false;
  std::vector<Copy> copies;
  BB_CO_TRY(co_await read_copies(piece, &copies));
  RegionRange regions = geometry_.range_of(piece->offset_bytes, piece->length_bytes);
  bool was_written = !doubtful_.any_in(regions.first, regions.count);
  if (!settle_all(copies, *piece, was_written)) {
    co_return fail(Code::k_corrupt, "copies differ in {} bytes at {}, and no checksum tells which",
                   piece->length_bytes, piece->offset_bytes);
  }
  MemberMask ok_mask;
  for (const Copy& copy : copies) {
    if (!copy.differs) ok_mask.set(copy.member->index);
  }
  MemberMask have = ok_mask;
  auto wanted = [&have, regions](const Member& member) {
    return member.writable() && !have.test(member.index) && !member.lacks(regions);
  };
  FanOut fan(*this);
  uint64_t slots = write_holders(fan, *piece, wanted);
  // Also of those that hold it already: what is recorded of them may be old.
  BlockSums sums;
  sums.compute({piece->iov, piece->iov_count});
  for_each_holder(piece->offset_bytes, [&](Member& member, uint64_t place_bytes) {
    if (!have.test(member.index) || !member.writable()) return;
    slots |= member.slot_bit();
    record_sums(member, place_bytes, sums.values());
  });
  co_await fan;
  Status status = judge(fan, slots, &ok_mask);
  for (uint32_t i = 0; i < fan.count(); ++i) {
    if (fan.leg(i).status.ok()) resynced_bytes_ += piece->length_bytes;
  }
  for (const Copy& copy : copies) *again = *again || !copy.member->required();
  if (*again) co_return fail(Code::k_unavailable, "the source of a copy was lost");
  BB_CO_TRY(status);
  co_return co_await settle(ok_mask, slots_of(*piece));
}

}  // namespace bb::raid
