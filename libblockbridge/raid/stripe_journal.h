// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "io/buffer.h"
#include "io/sync.h"
#include "raid/io_batch.h"
#include "raid/journal_replay.h"
#include "raid/journal_ring.h"
#include "raid/stripe_layout.h"
#include "raid/stripe_members.h"

namespace bb::raid {

// Puts writes into the members' rings before they are done in place. One entry is written at a
// time; writes that come meanwhile share the next.
class StripeJournal {
 public:
  struct Part {
    uint32_t slot = 0;
    uint32_t within_bytes = 0;  // of the chunk
    ConstBytes bytes;
    uint32_t checksum = 0;  // CRC-32C of the bytes: who made them has them in its cache
  };

  StripeJournal(io::Loop& loop, const StripeLayout& layout, StripeMembers& members);

  void start(Uuid life);
  const Uuid& life() const { return life_; }
  // Durable on all members of `parts` when it is ok, but for those in `lacking_mask`, which have
  // failed. The bytes stay as they are until then. `seq`: for done(). An error: nothing may go in
  // place, and there is nothing to be done().
  io::Task<Status> put(uint32_t row, std::vector<Part> parts, uint64_t* seq,
                       uint64_t* lacking_mask);
  // It is in place, as far as it will ever be.
  void done(uint64_t seq);
  // Returns when all that was put so far is done.
  io::Task<Status> all_done();
  // It is neither in place nor ever will be: its entry stays, and no other follows.
  void stuck(const Status& why);
  const Status& stuck() const { return stuck_; }
  // Flushes every writable member; ok once all have done so whom anybody counts on.
  io::Task<Status> flush();

  // A ring that holds nothing any more, of a member that is not writable.
  void forget_ring(uint32_t slot) { rings_[slot] = JournalRing(layout_.ring_bytes); }
  uint64_t first_seq() const { return first_seq_; }  // entries before have ended

  // When nothing is in flight: what is in place is flushed, and the rings say that all has ended,
  // so that the next recover() has nothing to do. As far as members take it.
  io::Task<void> end_all();
  io::Task<void> stop();

 private:
  struct Waiting {
    uint32_t row = 0;
    std::vector<Part> parts;
    uint64_t touched_mask = 0;
    uint64_t seq = 0;
    uint64_t lacking_mask = 0;
    Status status;
    io::Event written;
    explicit Waiting(io::Loop& loop) : written(loop) {}
  };
  struct Entry {  // on one member; used again for the next
    JournalHead head;
    io::AlignedBuffer head_bytes;
    std::vector<iovec> pieces;  // the head, the parts, what fills up
    std::vector<iovec> around;  // … of these, what goes to the ring's start
    uint64_t part_bytes = 0;
    void clear();
  };

  io::Task<void> run();
  // What waits, into entries_, as far as it fits; `slots`: which of them are used.
  std::vector<Waiting*> take_batch(uint64_t* slots);
  bool fits(uint64_t slots, const Waiting& write) const;
  void add(uint64_t* slots, const Waiting& write, uint32_t number);
  io::Task<void> write_entry(uint64_t slots, std::vector<Waiting*>* batch);
  io::Task<Status> make_room(uint64_t slots);
  uint64_t slots_without_room(uint64_t slots) const;
  io::Task<bool> announce(uint64_t slots);
  void place(uint32_t slot, uint64_t seq, Entry& entry, IoBatch& into);
  uint64_t note_written(IoBatch& io, uint64_t first_seq);
  uint64_t first_not_done() const;

  io::Loop& loop_;
  const StripeLayout& layout_;
  StripeMembers& members_;
  Uuid life_;
  std::vector<JournalRing> rings_;  // by slot
  std::vector<Entry> entries_;      // by slot, of the batch under way
  std::deque<Waiting*> waiting_;
  std::map<uint64_t, uint32_t> in_place_;  // writes not done yet, by entry
  uint64_t next_seq_ = 1;
  uint64_t first_seq_ = 1;
  io::AlignedBuffer zeroes_;
  io::Event work_, progress_;
  Status stuck_;
  bool stopping_ = false;
  io::TaskGroup running_;
};

}  // namespace bb::raid
