// SPDX-License-Identifier: Apache-2.0
// Checksums of the members' blocks: fetched, recorded with writes, compared with reads, and written
// back before the bitmap may forget where they are old (docs/formats/checksums.md).
#include <algorithm>
#include <numeric>

#include "raid/array_core.h"

namespace bb::raid {
namespace {

constexpr uint64_t kPageCovers = kChecksumsPerPage * kCheckedBlockBytes;
constexpr size_t kPagesAtOnce = 32;
constexpr uint64_t kPagesLeast = 1024;
constexpr uint64_t kArrayBytesPerPage = 32 * MiB;  // so pages take an 8192th of it

// Both copies of a page. One that the drive cannot read is damaged, and not the other's fault.
io::Task<Status> read_both(io::Device* device, uint64_t at_bytes, io::AlignedBuffer* into) {
  Status status = co_await device->read(at_bytes, into->bytes());
  if (!is_medium_error(status)) co_return status;
  for (uint64_t at = 0; at < into->size(); at += kChecksumPageBytes) {
    Bytes copy = into->bytes().subspan(at, kChecksumPageBytes);
    status = co_await device->read(at_bytes + at, copy);
    if (is_medium_error(status)) {
      std::ranges::fill(copy, std::byte{0xff});
    } else if (!status.ok()) {
      co_return status;
    }
  }
  co_return Status();
}

}  // namespace

uint64_t checksum_pages_max(uint64_t array_bytes) {
  return kPagesLeast + array_bytes / kArrayBytesPerPage;
}

// The rows of which a page has checksums.
RegionRange ArrayCore::rows_of_sums(uint64_t page) const {
  uint64_t chunk = geometry_.shape.chunk_bytes;
  uint64_t first = page * kPageCovers / chunk;
  return {first, ((page + 1) * kPageCovers - 1) / chunk - first + 1};
}

// The regions of which a page has checksums.
std::vector<uint64_t> ArrayCore::regions_of_sums(uint64_t page) const {
  if (stripes_) {
    RegionRange rows = rows_of_sums(page);
    return stripes_->regions_of_rows(rows.first, rows.count);
  }
  uint64_t from = page * kPageCovers;
  uint64_t to = std::min(geometry_.member_bytes, from + kPageCovers) - 1;
  std::vector<uint64_t> regions(to / geometry_.region_size_bytes -
                                from / geometry_.region_size_bytes + 1);
  std::iota(regions.begin(), regions.end(), from / geometry_.region_size_bytes);
  return regions;
}

// A page of checksums is damaged: its blocks are compared, like after a crash, from now on.
io::Task<Status> ArrayCore::doubt_sums(uint64_t page) {
  if (stripes_) {
    RegionRange rows = rows_of_sums(page);
    stripes_->doubt_rows(rows.first, rows.count);
  }
  std::vector<uint64_t> regions = regions_of_sums(page);
  for (uint64_t r : regions) {
    intent_.begin({r, 1});
    if (!unequal_.test(r)) doubtful_.set(r);
    unequal_.set(r);
    copied_.clear(r);
    flushing_.clear(r);
  }
  Status marked;
  for (uint64_t r : regions) {
    if (marked.ok()) marked = co_await persist({r, 1});
  }
  for (uint64_t r : regions) intent_.end({r, 1});
  if (!marked.ok()) co_return marked;
  count_resync_total();
  resync_work_.set();
  co_return marked;
}

// The checksums of these bytes of a member's data are in memory. CORRUPT, once: a copy of a
// page of them is damaged, so what is recorded may be old or gone, and its regions are compared.
io::Task<Status> ArrayCore::fetch_sums(Member* member, uint64_t place_bytes,
                                       uint64_t length_bytes) {
  uint64_t block = place_bytes / kCheckedBlockBytes;
  uint64_t count = length_bytes / kCheckedBlockBytes;
  PinnedSums pinned;
  for (;;) {
    std::shared_ptr<Checksums> sums = member->sums;
    uint64_t page = sums->missing(block, count);
    if (page == sums->pages()) co_return Status();
    if (!sums->begin_fetch(page)) {  // somebody else reads it
      co_await sums_fetched_.wait();
      continue;
    }
    Result<bool> whole = co_await fetch_page(member, sums.get(), page);
    sums->end_fetch(page);
    sums_fetched_.set();
    sums_fetched_.reset();
    BB_CO_TRY(whole.status());
    pinned.pin(sums, page * kChecksumsPerPage, 1);
    co_await make_room_for_sums();
    if (!*whole) co_return fail(Code::k_corrupt, "{}: its checksums are damaged", name_of(*member));
  }
}

// False: it is damaged.
io::Task<Result<bool>> ArrayCore::fetch_page(Member* member, Checksums* sums, uint64_t page) {
  io::AlignedBuffer both(kChecksumPageCopies * kChecksumPageBytes);
  BB_CO_TRY(co_await read_both(member->device, geometry_.checksum_offset_bytes(page), &both));
  FoundChecksums found = choose_checksum_page({record_.array, member->uuid, page}, both.bytes());
  if (found.damaged) {
    log_warn(
        "array \"{}\": {}: page {} of checksums is damaged -> its blocks are compared with "
        "other copies",
        record_.name, name_of(*member), page);
    ++member->errors;
    BB_CO_TRY(co_await doubt_sums(page));
  }
  // With parity all members are zeroed first, and one that is new gets all that differs from that
  // before it counts.
  if (stripes_ && found.blank) found.sums.fill(zero_block_checksum());
  sums->put(page, found);
  co_return !found.damaged;
}

io::Task<void> ArrayCore::make_room_for_sums() {
  for (bool wrote = false;; wrote = true) {
    uint64_t resident = 0;
    for (const auto& member : members_) resident += member->sums ? member->sums->resident() : 0;
    for (const auto& member : members_) {
      while (resident > sums_max_ && member->sums && member->sums->evict()) --resident;
    }
    if (resident <= sums_max_ || wrote) co_return;
    (void)co_await write_sums(0);  // who fails is suspected
  }
}

// Of all who will be written to. Who cannot say is not written to, if the array can go on without.
io::Task<Status> ArrayCore::fetch_for_write(const io::IoRequest* request) {
  PinnedSums pinned;
  for (;;) {
    Member* missing = nullptr;
    uint64_t place = 0;
    uint64_t length = 0;
    for_each_copy(
        *request, [&](Member& member, uint64_t at_bytes, uint64_t, uint64_t length_bytes) {
          uint64_t count = length_bytes / kCheckedBlockBytes;
          if (missing != nullptr || !member.writable() ||
              member.sums->missing(at_bytes / kCheckedBlockBytes, count) == member.sums->pages()) {
            return;
          }
          missing = &member;
          place = at_bytes;
          length = length_bytes;
        });
    if (missing == nullptr) co_return Status();
    Status status = co_await fetch_sums(missing, place, length);
    if (status.ok()) {
      pinned.pin(missing->sums, place / kCheckedBlockBytes, length / kCheckedBlockBytes);
    }
    if (status.ok() || status.code() == Code::k_corrupt) continue;
    MemberMask others;
    for (const auto& member : members_) {
      if (member->writable() && member.get() != missing) others.set(member->index);
    }
    if (!enough(others, geometry_.shape.all_slots())) co_return status;
    suspect(*missing, status.to_string());
  }
}

bool ArrayCore::has_sums(const io::IoRequest& piece) {
  uint64_t count = piece.length_bytes / kCheckedBlockBytes;
  bool all = true;
  for_each_holder(piece.offset_bytes, [&](Member& member, uint64_t place_bytes) {
    if (!all || !member.writable()) return;
    const Checksums& sums = *member.sums;
    all = sums.missing(place_bytes / kCheckedBlockBytes, count) == sums.pages();
  });
  return all;
}

void ArrayCore::record_sums(Member& member, uint64_t place_bytes, std::span<const uint32_t> sums) {
  uint64_t block = place_bytes / kCheckedBlockBytes;
  for (uint32_t sum : sums) member.sums->set(block++, sum);
}

// Before the write itself: nobody reads these blocks meanwhile, and if it fails they are looked at
// again.
void ArrayCore::record_write(const io::IoRequest& request) {
  if (BB_MUTANT(kSumsOfNothing)) return;
  BlockSums sums;
  if (request.iov_count > 0) {
    sums.compute({request.iov, request.iov_count});
  } else {
    sums.fill(request.length_bytes / kCheckedBlockBytes, zero_block_checksum());
  }
  for_each_copy(request, [&](Member& member, uint64_t place_bytes, uint64_t from_bytes,
                             uint64_t length_bytes) {
    if (!member.writable()) return;
    record_sums(
        member, place_bytes,
        sums.values().subspan(from_bytes / kCheckedBlockBytes, length_bytes / kCheckedBlockBytes));
  });
}

// What was read of a member's data against what is recorded.
io::Task<Status> ArrayCore::verify(Member* member, uint64_t place_bytes,
                                   std::span<const iovec> memory) {
  BlockSums found;
  found.compute(memory);
  uint64_t length_bytes = found.values().size() * kCheckedBlockBytes;
  BB_CO_TRY(co_await fetch_sums(member, place_bytes, length_bytes));
  co_return compare_sums(*member, place_bytes, found);
}

// They are in memory.
Status ArrayCore::compare_sums(Member& member, uint64_t place_bytes, const BlockSums& found) {
  std::span<const uint32_t> sums = found.values();
  // Meanwhile they may have been found damaged, by this read or by another.
  uint64_t last_bytes = place_bytes + sums.size() * kCheckedBlockBytes - 1;
  uint64_t region = place_bytes / geometry_.region_size_bytes;
  if (has_unequal({region, last_bytes / geometry_.region_size_bytes - region + 1})) {
    return fail(Code::k_corrupt, "its copies have to be compared first");
  }
  uint64_t bad = 0;
  uint64_t first = 0;
  for (uint64_t i = 0; i < sums.size(); ++i) {
    uint32_t recorded = member.sums->at(place_bytes / kCheckedBlockBytes + i);
    if (recorded == kNoChecksum || recorded == sums[i]) continue;
    if (bad++ == 0) first = i;
  }
  if (bad == 0 || BB_MUTANT(kTrustBlocks)) return {};
  member.checksum_errors += bad;
  uint64_t at = geometry_.data_offset_bytes + place_bytes + first * kCheckedBlockBytes;
  return fail(Code::k_corrupt, "{} of {} blocks read from byte {} on are not what was written", bad,
              sums.size(), at);
}

// Writes back what has changed; `flush` not 0: only what has to be known before regions that this
// flush covered may be clean.
io::Task<Status> ArrayCore::write_sums(uint64_t flush) {
  io::Mutex::Held held = co_await sums_mutex_.scoped();
  std::vector<SumsPage> pages;
  for (const auto& member : members_) {
    if (!member->writable() || !member->sums) continue;
    auto wanted = [&](uint64_t page) {
      auto may_clean = [&](uint64_t r) { return intent_.may_clean_any({r, 1}, flush); };
      return flush == 0 || std::ranges::any_of(regions_of_sums(page), may_clean);
    };
    for (uint64_t page : member->sums->take_dirty(wanted)) {
      pages.push_back({.member = member.get(), .sums = member->sums, .page = page});
    }
  }
  Status status = co_await flush_for_sums(pages);
  std::span<SumsPage> left = pages;
  while (!left.empty() && status.ok()) {
    size_t count = std::min(left.size(), kPagesAtOnce);
    status = co_await write_sums_at_once(left.first(count));
    left = left.subspan(count);
  }
  for (SumsPage& page : left) page.sums->written(page.page, false);
  co_return status;
}

// The copy that is overwritten is the older one; the newer one has to be durable by then.
io::Task<Status> ArrayCore::flush_for_sums(std::span<const SumsPage> pages) {
  FanOut fan(*this);
  uint64_t slots = 0;
  uint64_t number = 0;
  for (const SumsPage& page : pages) {
    uint64_t epoch = page.sums->written_epoch(page.page);
    bool wanted = epoch != 0 && epoch >= page.member->flushed_epoch;
    if (!wanted || (slots & page.member->slot_bit()) != 0 || BB_MUTANT(kSumsUnflushed)) continue;
    if (number == 0) number = intent_.flush_begin();
    fan.add(*page.member, {.op = io::IoOp::kFlush});
    slots |= page.member->slot_bit();
  }
  if (slots == 0) co_return Status();
  co_await fan;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    FanOut::Leg& leg = fan.leg(i);
    if (leg.status.ok()) leg.member->flushed_epoch = std::max(leg.member->flushed_epoch, number);
  }
  MemberMask ok_mask;
  co_return judge(fan, slots, &ok_mask);
}

io::Task<Status> ArrayCore::write_sums_at_once(std::span<SumsPage> pages) {
  FanOut fan(*this);
  uint64_t slots = 0;
  for (SumsPage& page : pages) {
    page.buffer = io::AlignedBuffer::uncleared(kChecksumPageBytes);
    page.memory = page.buffer.as_iovec();
    uint64_t generation = page.sums->generation(page.page) + 1;
    encode_checksum_page({record_.array, page.member->uuid, page.page, generation},
                         page.sums->sums(page.page), page.buffer.bytes());
    uint64_t copy = generation % kChecksumPageCopies;
    fan.add(*page.member,
            {.op = io::IoOp::kWrite,
             .offset_bytes = geometry_.checksum_offset_bytes(page.page) + copy * kChecksumPageBytes,
             .length_bytes = kChecksumPageBytes,
             .iov = &page.memory,
             .iov_count = 1});
    slots |= page.member->slot_bit();
  }
  co_await fan;
  for (uint32_t i = 0; i < fan.count(); ++i) {
    pages[i].sums->written(pages[i].page, fan.leg(i).status.ok(), intent_.epoch());
  }
  MemberMask ok_mask;
  co_return judge(fan, slots, &ok_mask);
}

}  // namespace bb::raid
