// SPDX-License-Identifier: Apache-2.0
// A member that is new, or comes back: its map, its blocks.
#include <algorithm>
#include <array>
#include <bit>

#include "base/mutant.h"
#include "raid/stripe_hold.h"

namespace bb::raid {

void StripeStore::admit(uint32_t slot) {
  BB_CHECK((members_.writable_mask() >> slot & 1) == 0, "the ring of member {} is in use", slot);
  journal_.forget_ring(slot);
}

// The pages say that all entries have ended that its ring may have from before.
io::Task<Status> StripeStore::write_map() {
  map_.request_all();
  co_return co_await write_pages();
}

io::Task<Status> StripeStore::rebuild(uint64_t stripe, uint64_t slice_bytes) {
  const uint64_t chunk = layout_.shape.chunk_bytes;
  BB_CHECK(slice_bytes > 0 && slice_bytes % kCheckedBlockBytes == 0, "a slice of {} bytes",
           slice_bytes);
  Hold hold(*this, stripe, io::LockMode::kShared);  // no write is between our reads and our writes
  if (!BB_MUTANT(kRebuildUnlocked)) co_await hold;
  uint64_t targets = members_.writable_mask() & ~members_.readable_mask();
  if (targets == 0) co_return Status();
  if (in_doubt(stripe)) BB_CO_TRY(co_await prove_held(stripe, nullptr));
  PinnedSums pinned;
  if (sums_ != nullptr) {
    co_await fetch_all(targets, map_.row_of(stripe) * chunk, chunk, &pinned);
  }
  for (uint64_t at = 0; at < chunk; at += slice_bytes) {
    if (at > 0) co_await loop_.yield();
    Settle slice{
        .stripe = stripe, .within_bytes = at, .length_bytes = std::min(slice_bytes, chunk - at)};
    BB_CO_TRY(co_await rebuild_slice(&slice, targets));
  }
  co_return Status();
}

io::Task<Status> StripeStore::rebuild_slice(const Settle* slice, uint64_t targets_mask) {
  const Shape& shape = layout_.shape;
  uint64_t stripe = slice->stripe;
  uint32_t row = map_.row_of(stripe);
  uint64_t at = place(row, slice->within_bytes);
  uint64_t length = slice->length_bytes;
  uint64_t all = shape.all_slots();
  uint64_t bad_mask = 0;
  bool settled = false;
  for (;;) {
    uint64_t lost_slots = all & (~members_.readable_mask() | bad_mask);
    if (std::popcount(lost_slots) > static_cast<int>(shape.level->parity)) {
      co_return lost(stripe, lost_slots);
    }
    BB_CO_ASSIGN(Reconstruction plan,
                 Reconstruction::plan(code_, blocks_of_slots(shape, row, lost_slots)));
    io::AlignedBuffer memory =
        io::AlignedBuffer::uncleared((plan.sources().size() + plan.lost().size()) * length);
    std::vector<const std::byte*> sources;
    IoBatch reads;
    for (uint32_t source : plan.sources()) {
      Bytes into = memory.bytes().subspan(sources.size() * length, length);
      sources.push_back(into.data());
      uint32_t slot = block_slot(shape, row, source);
      reads.read(slot, members_.device(slot), at, into);
    }
    co_await reads;
    uint64_t failed = note_failures(reads);
    bool compared = sums_ != nullptr && !BB_MUTANT(kRebuildUnchecked);
    if (compared && !co_await check(&reads, stripe, &failed)) {
      co_return error(Code::k_unavailable, "stripe {}: checksums were damaged", stripe);
    }
    if (failed != 0 && sums_ != nullptr && !settled) {
      settled = true;
      BB_CO_TRY(co_await prove_held(stripe, nullptr));
      continue;
    }
    bad_mask |= failed;
    if (failed != 0) continue;
    std::array<std::byte*, kParityMax> made{};
    IoBatch writes;
    for (size_t i = 0; i < plan.lost().size(); ++i) {
      made[i] = memory.data() + (sources.size() + i) * length;
    }
    plan.run(sources.data(), made.data(), length);
    for (size_t i = 0; i < plan.lost().size(); ++i) {
      uint32_t slot = block_slot(shape, row, plan.lost()[i]);
      bool target = ((targets_mask & members_.writable_mask()) >> slot & 1) != 0;
      if (!target) continue;
      ConstBytes bytes{made[i], length};
      if (sums_ != nullptr) record(slot, at - layout_.data_offset_bytes, bytes);
      writes.write(slot, members_.device(slot), at, bytes, false);
    }
    co_return co_await all_or_failed(&writes, "rebuilding");
  }
}

}  // namespace bb::raid
