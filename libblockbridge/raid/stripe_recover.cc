// SPDX-License-Identifier: Apache-2.0
// After a stop: the newest map, and what the journal has to be done again.
#include <algorithm>
#include <array>
#include <functional>

#include "base/mutant.h"
#include "base/units.h"
#include "raid/stripe_store.h"

namespace bb::raid {
namespace {

constexpr uint64_t kMapBytesAtOnce = 8 * MiB;  // of all members: what is read stays in the cache

}  // namespace

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

// Both copies of every page of every readable member, some pages of all members at a time: the map
// of a large array has hundreds of MiB on each. `heads`: by slot, the newest of each page.
io::Task<Status> StripeStore::load_map(std::vector<std::vector<StripePageHead>>* heads) {
  constexpr uint64_t kBothBytes = kStripePageCopies * kStripePageBytes;
  uint32_t members = layout_.shape.members;
  auto at_once = static_cast<uint32_t>(
      std::min<uint64_t>(map_.pages(), kMapBytesAtOnce / kBothBytes / members));
  io::AlignedBuffer bytes = io::AlignedBuffer::uncleared(members * at_once * kBothBytes);
  for (auto& of_slot : *heads) of_slot.resize(map_.pages());
  for (uint32_t first = 0; first < map_.pages(); first += at_once) {
    uint64_t length = std::min(at_once, map_.pages() - first) * kBothBytes;
    auto part = [&](uint32_t slot) {
      return bytes.bytes().subspan(slot * at_once * kBothBytes, length);
    };
    uint64_t asked = members_.readable_mask();
    IoBatch batch;
    for (uint32_t slot = 0; slot < members; ++slot) {
      if ((asked >> slot & 1) == 0) continue;
      uint64_t at = layout_.map_offset_bytes + first * kBothBytes;
      batch.read(slot, members_.device(slot), at, part(slot));
    }
    BB_CO_TRY(co_await all_or_failed(&batch, "map"));
    for (uint32_t slot = 0; slot < members; ++slot) {
      if ((asked >> slot & 1) != 0) adopt_pages(first, part(slot), (*heads)[slot]);
    }
  }
  BB_CO_TRY(map_.settle());
  for (uint32_t slot = 0; slot < members; ++slot) {
    if ((members_.writable_mask() >> slot & 1) == 0) continue;
    for (uint32_t page = 0; page < map_.pages(); ++page) {
      if ((*heads)[slot][page].generation == map_.generation(page)) continue;
      if (!BB_MUTANT(kPageUnsettled)) map_.request_all();
      break;
    }
  }
  co_return Status();
}

// Of each page the copy that is valid and the newer one of these.
void StripeStore::adopt_pages(uint32_t first, ConstBytes bytes, std::span<StripePageHead> heads) {
  std::array<uint32_t, kStripesPerPage> room;
  for (uint32_t page = first; !bytes.empty(); ++page) {
    std::array<ConstBytes, kStripePageCopies> copies;
    for (ConstBytes& copy : copies) {
      copy = bytes.first(kStripePageBytes);
      bytes = bytes.subspan(kStripePageBytes);
    }
    std::ranges::sort(copies, std::greater(), claimed_generation);
    uint64_t stripes = std::min(kStripesPerPage, layout_.stripes - page * kStripesPerPage);
    std::span<uint32_t> rows = std::span(room).first(stripes);
    for (ConstBytes copy : copies) {
      if (claimed_generation(copy) == 0) break;  // never written
      Result<StripePageHead> head =
          decode_stripe_page(layout_.array, page, copy, layout_.rows, rows);
      if (!head.ok()) continue;
      heads[page] = *head;
      map_.adopt(*head, rows);
      break;
    }
  }
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
