// SPDX-License-Identifier: Apache-2.0
// Keeps the write-intent bitmap on the members: one batch of pages at a time, shared by all writes
// that wait for it.
#include "raid/array_core.h"

namespace bb::raid {

// Rule 1: returns ok when every in-sync member has the bits.
io::Task<Status> ArrayCore::persist(RegionRange regions) {
  uint64_t deadline_ns = 0;
  while (!intent_.durable(regions)) {
    BB_CO_TRY(usable());
    if (!may_serve()) {
      co_return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
    }
    if (deadline_ns == 0) deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
    intent_.request(regions);
    bitmap_work_.set();
    uint64_t failures = bitmap_failures_;
    bool woken = co_await bitmap_done_.wait_until(deadline_ns);
    if (bitmap_failures_ != failures) co_return bitmap_error_;
    if (!woken) {
      co_return fail(Code::k_unavailable,
                     "the write-intent bitmap could not be made durable on every in-sync member "
                     "within {} ms",
                     options_.commit_wait_ns / kNsPerMs);
    }
  }
  co_return Status();
}

// Writes every page to every active member.
io::Task<Status> ArrayCore::persist_all() {
  intent_.request_all();
  bitmap_work_.set();
  uint64_t batch = batches_begun_ + 1;
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  while (batches_done_ < batch) {
    BB_CO_TRY(usable());
    if (!co_await bitmap_done_.wait_until(deadline_ns)) {
      co_return fail(Code::k_unavailable, "the bitmap could not be written within {} ms",
                     options_.commit_wait_ns / kNsPerMs);
    }
  }
  co_return Status();
}

io::Task<void> ArrayCore::bitmap_loop() {
  while (!stop_background_) {
    if (!intent_.batch_wanted() || !may_serve() || !fenced_.empty()) {
      bitmap_work_.reset();
      co_await bitmap_work_.wait();
      continue;
    }
    ++batches_begun_;
    MemberMask ok_mask = co_await write_pages();
    // A page counts once every member that the record calls in-sync has it.
    uint64_t slots = geometry_.shape.all_slots();
    Member* lacking = nullptr;
    bool written = ok_mask.any();
    while (written && (!settled(ok_mask, slots, &lacking) || !fenced_.empty())) {
      written = lacking == nullptr && usable().ok() && may_serve() && !stop_background_;
      if (!written) break;
      membership_work_.set();
      co_await changed_.wait();
    }
    written = written && fenced_.empty();
    intent_.batch_end(written);
    if (written) batches_done_ = batches_begun_;
    bitmap_done_.set();
    bitmap_done_.reset();
    // Whoever became suspect has failed for good; do not spin while that is being sorted out.
    if (!written) co_await stop_.wait_until(loop_.now_ns() + 10 * kNsPerMs);
  }
  bitmap_done_.set();
}

io::Task<MemberMask> ArrayCore::write_pages() {
  intent_.batch_begin();
  MemberMask ok_mask;
  for (const auto& member : members_) {
    if (member->writable()) ok_mask.set(member->index);
  }
  std::vector<std::pair<Member*, Status>> failures;
  if (BB_MUTANT(kSkipBitmapWrite)) co_return ~MemberMask();
  for (size_t i = 0; i < intent_.batch().size(); ++i) {
    uint32_t page = intent_.batch()[i];
    if (pages_[page].size() == 0) pages_[page] = io::AlignedBuffer(kBitmapPageBytes);
    intent_.encode(page, pages_[page].bytes());
    iovec vector = pages_[page].as_iovec();
    FanOut fan(*this);
    for (auto& member : members_) {
      if (!member->writable() || !ok_mask.test(member->index)) continue;
      fan.add(*member, {.op = io::IoOp::kWrite,
                        .offset_bytes = kBitmapOffsetBytes + page * kBitmapPageBytes,
                        .length_bytes = kBitmapPageBytes,
                        .iov = &vector,
                        .iov_count = 1,
                        .fua = true});
    }
    co_await fan;
    bitmap_writes_ += fan.count();
    MemberMask page_mask;
    for (uint32_t leg = 0; leg < fan.count(); ++leg) {
      FanOut::Leg& done = fan.leg(leg);
      if (done.status.ok()) {
        page_mask.set(done.member->index);
      } else {
        failures.emplace_back(done.member,
                              done.status.with_context(fmt::format("bitmap page {}", page)));
      }
    }
    ok_mask &= page_mask;
  }
  if (!failures.empty() && !enough(ok_mask, geometry_.shape.all_slots())) {
    // Too few members took it: the writes that wait fail, and everybody keeps the state it has.
    bitmap_error_ = failures[0].second.with_context(name_of(*failures[0].first));
    ++bitmap_failures_;
    co_return MemberMask();
  }
  for (auto& failure : failures) suspect(*failure.first, failure.second.to_string());
  co_return ok_mask;
}

// Rule 2: nobody is away or half-copied, and no commit is in doubt that might say otherwise.
bool ArrayCore::may_clean() const {
  if (BB_MUTANT(kClearWhileDegraded)) return true;
  if (record_.any_missing() || record_unknown_ || clean_hold_ > 0 || !fenced_.empty()) return false;
  for (const auto& member : members_) {
    if (member->required() && !member->writable()) return false;
    if (member->promoting) return false;
  }
  return true;
}

io::Task<void> ArrayCore::clean_loop() {
  uint64_t flushed_before = 0;
  while (!stop_background_) {
    co_await stop_.wait_until(loop_.now_ns() + options_.clean_delay_ns);
    if (stop_background_) break;
    if (intent_.dirty().empty() || !may_clean() || !holds_all()) {
      flushed_before = 0;
      continue;
    }
    // What clean regions hold is known by its checksums: those are durable first, by this flush.
    if (flushed_before != 0 && !BB_MUTANT(kCleanBeforeSums)) {
      Status recorded = co_await write_sums(flushed_before);
      if (!recorded.ok()) flushed_before = 0;
    }
    Result<uint64_t> flushed = co_await flush_members();
    if (stop_background_ || !flushed.ok() || *flushed == 0 || !may_clean()) {
      flushed_before = 0;
      continue;
    }
    // Lazily: what the flush before this one covered, so that a busy region keeps its bit.
    if (flushed_before != 0 && intent_.clean(flushed_before, unequal_) > 0) bitmap_work_.set();
    flushed_before = *flushed;
  }
}

}  // namespace bb::raid
