// SPDX-License-Identifier: Apache-2.0
#include "raid/stripe_journal.h"

#include <algorithm>

#include "base/mutant.h"
#include "base/units.h"

namespace bb::raid {

StripeJournal::StripeJournal(io::Loop& loop, const StripeLayout& layout, StripeMembers& members)
    : loop_(loop),
      layout_(layout),
      members_(members),
      rings_(layout.shape.members, JournalRing(layout.ring_bytes)),
      entries_(layout.shape.members),
      zeroes_(kJournalHeadBytes),
      work_(loop),
      progress_(loop),
      running_(loop) {
  BB_CHECK(layout.ring_bytes == 0 || layout.ring_bytes >= ring_min_bytes(layout.shape),
           "a ring of {} bytes, and {} are needed", layout.ring_bytes,
           ring_min_bytes(layout.shape));
  std::memset(zeroes_.data(), 0, zeroes_.size());
}

void StripeJournal::start(Uuid life) {
  life_ = life;
  running_.spawn(run());
}

io::Task<void> StripeJournal::stop() {
  stopping_ = true;
  work_.set();
  co_await running_.join();
}

io::Task<Status> StripeJournal::put(uint32_t row, std::vector<Part> parts, uint64_t* seq,
                                    uint64_t* lacking_mask) {
  Waiting write(loop_);
  write.row = row;
  write.parts = std::move(parts);
  for (const Part& part : write.parts) write.touched_mask |= uint64_t{1} << part.slot;
  waiting_.push_back(&write);
  work_.set();
  co_await write.written.wait();
  *seq = write.seq;
  *lacking_mask = write.lacking_mask;
  co_return write.status;
}

void StripeJournal::done(uint64_t seq) {
  auto found = in_place_.find(seq);
  BB_CHECK(found != in_place_.end(), "entry {} of the journal is done twice", seq);
  if (--found->second == 0) in_place_.erase(found);
  progress_.set();
}

uint64_t StripeJournal::first_not_done() const {
  return in_place_.empty() ? next_seq_ : in_place_.begin()->first;
}

io::Task<Status> StripeJournal::all_done() {
  uint64_t barrier = next_seq_;
  while (first_not_done() < barrier) {
    BB_CO_TRY(stuck_);
    progress_.reset();
    co_await progress_.wait();
  }
  co_return Status();
}

void StripeJournal::stuck(const Status& why) {
  stuck_ = why;
  progress_.set();
}

io::Task<Status> StripeJournal::flush() {
  uint64_t ended = first_not_done();  // what is done now is durable then
  IoBatch batch;
  for (uint32_t slot = 0; slot < layout_.shape.members; ++slot) {
    if (BB_MUTANT(kEndUnflushed)) continue;
    if ((members_.writable_mask() >> slot & 1) != 0) batch.flush(slot, members_.device(slot));
  }
  co_await batch;
  uint64_t flushed = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    const IoBatch::Leg& leg = batch.leg(i);
    if (leg.status.ok()) {
      flushed |= uint64_t{1} << leg.slot;
    } else {
      members_.failed(leg.slot, leg.status);
    }
  }
  if (BB_MUTANT(kEndUnflushed)) flushed = ~uint64_t{0};
  // Whoever was left out may have lost what it had taken: it must not come back with that.
  BB_CO_TRY(co_await members_.settle(BB_MUTANT(kFlushForgets) ? 0 : ~flushed));
  first_seq_ = std::max(first_seq_, ended);
  progress_.set();
  co_return Status();
}

io::Task<void> StripeJournal::end_all() {
  if (layout_.ring_bytes == 0 || !stuck_.ok() || first_not_done() != next_seq_) co_return;
  if (!(co_await flush()).ok()) co_return;
  (void)co_await announce(layout_.shape.all_slots());
}

void StripeJournal::Entry::clear() {
  head.parts.clear();
  pieces.clear();
  around.clear();
  part_bytes = 0;
}

io::Task<void> StripeJournal::run() {
  for (;;) {
    while (waiting_.empty() && !stopping_) {
      work_.reset();
      co_await work_.wait();
    }
    if (waiting_.empty()) co_return;
    uint64_t slots = 0;
    std::vector<Waiting*> batch = take_batch(&slots);
    Status status = co_await make_room(slots);
    if (status.ok()) co_await write_entry(slots, &batch);
    for (Waiting* write : batch) {
      write->status = status;
      write->written.set();
    }
  }
}

bool StripeJournal::fits(uint64_t slots, const Waiting& write) const {
  // At most a quarter of a ring at once, so that one entry is written while others end.
  uint64_t most = layout_.ring_bytes / 4;
  for (const Part& part : write.parts) {
    if ((slots >> part.slot & 1) == 0) continue;
    uint64_t bytes = entries_[part.slot].part_bytes;
    size_t parts = entries_[part.slot].head.parts.size();
    for (const Part& other : write.parts) {
      if (other.slot != part.slot) continue;
      bytes += other.bytes.size();
      ++parts;
    }
    if (bytes > most || parts > kJournalPartsMax) return false;
  }
  return true;
}

void StripeJournal::add(uint64_t* slots, const Waiting& write, uint32_t number) {
  for (const Part& part : write.parts) {
    Entry& entry = entries_[part.slot];
    if ((*slots >> part.slot & 1) == 0) {
      *slots |= uint64_t{1} << part.slot;
      entry.clear();
      if (entry.head_bytes.size() == 0) entry.head_bytes = io::AlignedBuffer(kJournalHeadBytes);
      entry.pieces.push_back(entry.head_bytes.as_iovec());
    }
    entry.head.parts.push_back({.write = number,
                                .row = write.row,
                                .touched_mask = write.touched_mask,
                                .within_bytes = part.within_bytes,
                                .length_bytes = static_cast<uint32_t>(part.bytes.size()),
                                .checksum = part.checksum});
    entry.pieces.push_back(
        {.iov_base = const_cast<std::byte*>(part.bytes.data()), .iov_len = part.bytes.size()});
    entry.part_bytes += part.bytes.size();
  }
}

std::vector<StripeJournal::Waiting*> StripeJournal::take_batch(uint64_t* slots) {
  std::vector<Waiting*> batch;
  while (!waiting_.empty() && (batch.empty() || fits(*slots, *waiting_.front()))) {
    Waiting* write = waiting_.front();
    waiting_.pop_front();
    add(slots, *write, static_cast<uint32_t>(batch.size()));
    batch.push_back(write);
  }
  return batch;
}

// One head's room is kept, to announce what has ended.
uint64_t StripeJournal::slots_without_room(uint64_t slots) const {
  uint64_t mask = 0;
  for (uint32_t slot = 0; slot < rings_.size(); ++slot) {
    if ((slots >> slot & 1) == 0) continue;
    uint64_t length = entries_[slot].head.length_bytes() + kJournalHeadBytes;
    if (!rings_[slot].has_room(length)) mask |= uint64_t{1} << slot;
  }
  return mask;
}

// Entries end when they are in place and flushed, and their room is used again once a head of the
// same ring says so.
io::Task<Status> StripeJournal::make_room(uint64_t slots) {
  for (;;) {
    BB_CO_TRY(stuck_);
    uint64_t full = slots_without_room(slots);
    if (full == 0) co_return Status();
    if (co_await announce(full)) continue;
    if (first_not_done() > first_seq_) {
      BB_CO_TRY(co_await flush());
      continue;
    }
    progress_.reset();
    co_await progress_.wait();
  }
}

// Heads without parts, where they give room. False: nowhere.
io::Task<bool> StripeJournal::announce(uint64_t slots) {
  std::map<uint32_t, Entry> heads;
  for (uint32_t slot = 0; slot < rings_.size(); ++slot) {
    bool wanted = (slots >> slot & 1) != 0 && rings_[slot].holds_before(first_seq_);
    if (wanted) heads[slot];
  }
  if (heads.empty()) co_return false;
  uint64_t first_seq = first_seq_;
  uint64_t seq = next_seq_++;
  IoBatch io;
  for (auto& [slot, head] : heads) {
    if ((members_.writable_mask() >> slot & 1) != 0) {
      head.head_bytes = io::AlignedBuffer(kJournalHeadBytes);
      head.pieces.push_back(head.head_bytes.as_iovec());
      place(slot, seq, head, io);
    } else {
      rings_[slot].end_before(first_seq);  // it is no member any more
    }
  }
  co_await io;
  (void)note_written(io, first_seq);
  co_return true;
}

// Returns the slots that failed.
uint64_t StripeJournal::note_written(IoBatch& io, uint64_t first_seq) {
  uint64_t failed = 0;
  for (size_t i = 0; i < io.size(); ++i) {
    const IoBatch::Leg& leg = io.leg(i);
    if (leg.status.ok()) continue;
    failed |= uint64_t{1} << leg.slot;
    members_.failed(leg.slot, leg.status);
  }
  for (size_t i = 0; i < io.size(); ++i) {
    const IoBatch::Leg& leg = io.leg(i);
    if ((failed >> leg.slot & 1) == 0) rings_[leg.slot].end_before(first_seq);
  }
  return failed;
}

io::Task<void> StripeJournal::write_entry(uint64_t slots, std::vector<Waiting*>* batch) {
  uint64_t first_seq = first_seq_;
  uint64_t seq = next_seq_++;
  in_place_[seq] = static_cast<uint32_t>(batch->size());
  IoBatch io;
  uint64_t lacking = slots & ~members_.writable_mask();
  for (uint32_t slot = 0; slot < rings_.size(); ++slot) {
    if (((slots & ~lacking) >> slot & 1) != 0) place(slot, seq, entries_[slot], io);
  }
  co_await io;
  lacking |= note_written(io, first_seq);
  for (Waiting* write : *batch) {
    write->seq = seq;
    write->lacking_mask = lacking & write->touched_mask;
  }
}

void StripeJournal::place(uint32_t slot, uint64_t seq, Entry& entry, IoBatch& into) {
  entry.head.array = layout_.array;
  entry.head.life = life_;
  entry.head.seq = seq;
  entry.head.first_seq = first_seq_;
  entry.head.slot = slot;
  uint64_t length = entry.head.length_bytes();
  std::optional<uint64_t> at = rings_[slot].take(seq, length);
  BB_CHECK(at.has_value(), "the journal's ring of member {} is full", slot);
  entry.head.offset_bytes = *at;
  encode_journal_head(entry.head, entry.head_bytes.bytes());
  uint64_t padding = length - kJournalHeadBytes - entry.part_bytes;
  if (padding > 0) entry.pieces.push_back({.iov_base = zeroes_.data(), .iov_len = padding});
  // What reaches beyond the ring's end goes to its start.
  uint64_t left = layout_.ring_bytes - *at;
  for (size_t i = 0; i < entry.pieces.size() && length > left; ++i) {
    iovec& piece = entry.pieces[i];
    if (piece.iov_len <= left) {
      left -= piece.iov_len;
      length -= piece.iov_len;
      continue;
    }
    auto first = entry.pieces.begin() + static_cast<ptrdiff_t>(i);
    entry.around.assign(first, entry.pieces.end());
    entry.around.front().iov_base = static_cast<std::byte*>(piece.iov_base) + left;
    entry.around.front().iov_len -= left;
    piece.iov_len = left;
    entry.pieces.resize(left == 0 ? i : i + 1);
    break;
  }
  io::Device* device = members_.device(slot);
  into.writev(slot, device, layout_.ring_offset_bytes + *at, entry.pieces, true);
  if (!entry.around.empty()) {
    into.writev(slot, device, layout_.ring_offset_bytes, entry.around, true);
  }
}

}  // namespace bb::raid
