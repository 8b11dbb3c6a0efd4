// SPDX-License-Identifier: Apache-2.0
// After a stop: the newest map, and what the journal has to be done again.
#include <algorithm>

#include "base/mutant.h"
#include "raid/stripe_store.h"

namespace bb::raid {

io::Task<Status> StripeStore::recover(Uuid life) {
  // Again without a member that fails meanwhile: until something is served, doing it again, also
  // with another outcome, harms nothing.
  for (;;) {
    std::vector<std::vector<StripePageHead>> heads(layout_.shape.members);
    uint64_t before = members_.readable_mask();
    // What is read must not be lost later: it may lie in a drive's cache since before the stop.
    Status status;
    if (!BB_MUTANT(kReplayUnflushed)) status = co_await journal_.flush();
    if (status.ok()) status = co_await load_map(&heads);
    if (status.ok()) status = co_await replay(life, &heads);
    if (status.ok()) status = co_await journal_.flush();
    if (status.ok()) co_return status;
    uint64_t failed = before & ~members_.readable_mask();
    if (failed == 0) co_return status;
    BB_CO_TRY(co_await members_.settle(failed));
  }
}

// A member that cannot give all of it, or take it, is no longer one.
io::Task<Status> StripeStore::all_or_failed(IoBatch* batch, const char* what) {
  co_await *batch;
  Status status;
  for (size_t i = 0; i < batch->size(); ++i) {
    const IoBatch::Leg& leg = batch->leg(i);
    if (leg.status.ok()) continue;
    members_.failed(leg.slot, leg.status);
    status = leg.status.with_context(fmt::format("{} of member {}", what, leg.slot));
  }
  co_return status;
}

// Both copies of every page of every readable member. `heads`: by slot, the newest of each page.
io::Task<Status> StripeStore::load_map(std::vector<std::vector<StripePageHead>>* heads) {
  uint64_t length = map_.pages() * kStripePageCopies * kStripePageBytes;
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    (*heads)[slot].resize(map_.pages());
    if ((members_.readable_mask() >> slot & 1) == 0) continue;
    io::AlignedBuffer bytes(length);
    IoBatch batch;
    batch.read(slot, members_.device(slot), layout_.map_offset_bytes, bytes.bytes());
    BB_CO_TRY(co_await all_or_failed(&batch, "map"));
    for (uint32_t page = 0; page < map_.pages(); ++page) {
      uint64_t first = page * kStripesPerPage;
      std::vector<uint32_t> rows(std::min(kStripesPerPage, layout_.stripes - first));
      for (uint64_t copy = 0; copy < kStripePageCopies; ++copy) {
        ConstBytes at =
            bytes.bytes().subspan(stripe_page_offset_bytes(page, copy), kStripePageBytes);
        Result<StripePageHead> head =
            decode_stripe_page(layout_.array, page, at, layout_.rows, rows);
        if (!head.ok() || head->generation < (*heads)[slot][page].generation) continue;
        (*heads)[slot][page] = *head;
        map_.adopt(*head, rows);
      }
    }
  }
  BB_CO_TRY(map_.settle());
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if ((members_.writable_mask() >> slot & 1) == 0) continue;
    for (uint32_t page = 0; page < map_.pages(); ++page) {
      bool same = (*heads)[slot][page].generation == map_.generation(page);
      if (!same && !BB_MUTANT(kPageUnsettled)) map_.request_all();
    }
  }
  co_return Status();
}

io::Task<Status> StripeStore::replay(Uuid life,
                                     const std::vector<std::vector<StripePageHead>>* heads) {
  if (layout_.ring_bytes == 0) co_return Status();
  std::vector<io::AlignedBuffer> rings(layout_.shape.members);
  std::vector<std::vector<FoundEntry>> found(layout_.shape.members);
  uint64_t present = members_.readable_mask();
  uint64_t first_seq = 0;
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if ((present >> slot & 1) == 0) continue;
    for (const StripePageHead& head : (*heads)[slot]) {
      if (head.life == life) first_seq = std::max(first_seq, head.first_seq);
    }
  }
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if ((present >> slot & 1) == 0) continue;
    rings[slot] = io::AlignedBuffer(layout_.ring_bytes);
    IoBatch batch;
    batch.read(slot, members_.device(slot), layout_.ring_offset_bytes, rings[slot].bytes());
    BB_CO_TRY(co_await all_or_failed(&batch, "journal"));
    JournalPlace place{.array = layout_.array,
                       .life = life,
                       .slot = slot,
                       .shape = layout_.shape,
                       .rows = layout_.rows};
    found[slot] = find_entries(place, rings[slot].bytes());
  }
  std::vector<ReplayStep> steps = plan_replay(found, present, first_seq);
  co_return co_await replay_steps(&steps, &rings);
}

// One after the other: later ones overwrite earlier ones.
io::Task<Status> StripeStore::replay_steps(const std::vector<ReplayStep>* steps,
                                           const std::vector<io::AlignedBuffer>* rings) {
  for (const ReplayStep& step : *steps) {
    uint32_t stripe = map_.stripe_in(step.row);
    if (stripe != kNoStripe) replayed_.push_back(stripe);
    ConstBytes ring = (*rings)[step.slot].bytes();
    io::AlignedBuffer bytes(step.length_bytes);
    uint64_t at = step.ring_offset_bytes % ring.size();
    uint64_t first = std::min<uint64_t>(step.length_bytes, ring.size() - at);
    std::memcpy(bytes.data(), ring.data() + at, first);
    std::memcpy(bytes.data() + first, ring.data(), step.length_bytes - first);
    IoBatch batch;
    batch.write(step.slot, members_.device(step.slot), place(step.row, step.within_bytes),
                bytes.bytes(), false);
    BB_CO_TRY(co_await all_or_failed(&batch, "data"));
  }
  co_return Status();
}

}  // namespace bb::raid
