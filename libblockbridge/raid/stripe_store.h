// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "io/buffer.h"
#include "io/range_lock.h"
#include "io/sync.h"
#include "raid/cell_solver.h"
#include "raid/io_batch.h"
#include "raid/region_set.h"
#include "raid/stripe_journal.h"
#include "raid/stripe_map.h"
#include "raid/stripe_plan.h"

namespace bb::raid {

// A block that was not what it has to be; not `repaired`: of its column nothing decides.
struct StripeFinding {
  uint32_t block = 0;
  uint64_t within_bytes = 0;  // of its chunk
  bool repaired = false;
};

// The data path of levels with parity: blocks of an array on the members it is given
// (docs/decisions/014-levels.md). Reads, writes and flushes may be in flight together; those of one
// stripe wait for each other, reads among themselves excepted. Belongs to one loop.
class StripeStore {
 public:
  // `sums`: of an array with integrity, else null. Requests are then of whole checked blocks.
  StripeStore(io::Loop& loop, StripeLayout layout, StripeMembers& members,
              StripeSums* sums = nullptr);
  ~StripeStore();

  // After a stop, before anything else: finds the map, and does again what the journal has. `life`:
  // the newest one that the superblock of any readable member names. All is durable when it
  // returns; then the superblocks get a newer life, and start() follows.
  io::Task<Status> recover(Uuid life);
  // In this life of the journal. Pages that members do not agree on are written.
  io::Task<Status> start(Uuid life);

  uint64_t size_bytes() const;
  // Within the size, whole blocks. A write that failed may have happened, in whole or in part; when
  // members could be neither written nor done without, none follows until the next recover().
  io::Task<Status> read(uint64_t offset_bytes, Bytes into);
  io::Task<Status> write(uint64_t offset_bytes, ConstBytes from, bool fua);
  io::Task<Status> flush();
  // How a member comes in, or back, while all goes on: admit() it, then it becomes writable; then
  // its map is written and each stripe rebuilt; and after a flush, if it has not failed meanwhile,
  // it may be readable.
  void admit(uint32_t slot);
  io::Task<Status> write_map();
  // Makes the blocks of all who are writable and not readable anew, from the others; so much of
  // each chunk at once, in whole checked blocks, and between two of these others have their turn.
  io::Task<Status> rebuild(uint64_t stripe, uint64_t slice_bytes);

  // --- integrity
  // What is recorded of a stripe may be old, so parity proves it before it is used. `damaged`: it
  // was not a crash, so nothing of it is guessed either.
  void doubt(uint64_t stripe, bool damaged);
  bool in_doubt(uint64_t stripe) const { return !unproved_.empty() && unproved_.test(stripe); }
  io::Task<Status> prove(uint64_t stripe);
  // Those that recover() wrote to.
  const std::vector<uint64_t>& replayed() const { return replayed_; }
  // Compares all blocks of a stripe with what is recorded of them and with their parity; makes
  // anew what one of them proves. An error: members could not be read.
  io::Task<Status> scrub(uint64_t stripe, std::vector<StripeFinding>* findings);

  // When nothing else is in flight: leaves nothing for the next recover() to do.
  io::Task<void> end_all() { return journal_.end_all(); }
  // Once, before destruction, when nothing else is in flight.
  io::Task<void> stop();

  // Why no write is taken any more: one could be neither done nor undone. recover() does.
  const Status& stuck() const { return journal_.stuck(); }
  const StripeMap& map() const { return map_; }

 private:
  struct Piece {  // of a request, in one stripe
    uint64_t stripe = 0;
    uint64_t within_bytes = 0;
    uint64_t length_bytes = 0;
    uint64_t at_bytes = 0;  // in the request's memory
  };
  class Hold;
  class Work;
  class Columns;
  struct Settle {  // columns of a stripe
    uint64_t stripe = 0;
    uint64_t within_bytes = 0;  // of each chunk
    uint64_t length_bytes = 0;
    uint32_t into_block = 0;  // … that is wanted, and where it goes
    Bytes into;
    std::vector<StripeFinding>* findings = nullptr;
  };

  using PieceOperation = std::function<io::Task<void>(Piece piece, Status* status)>;
  io::Task<Status> for_all(const std::vector<Piece>* pieces, PieceOperation operation);
  io::Task<void> read_held(Piece piece, Bytes into, Status* status);
  io::Task<void> write_held(Piece piece, ConstBytes from, Status* status);
  std::vector<Piece> pieces_of(uint64_t offset_bytes, uint64_t length_bytes) const;
  uint64_t stripe_bytes() const { return layout_.shape.chunk_bytes * layout_.shape.data_chunks(); }
  uint64_t place(uint32_t row, uint64_t within_bytes) const {
    return layout_.data_offset_bytes + row * layout_.shape.chunk_bytes + within_bytes;
  }
  Status lost(uint64_t stripe, uint64_t lost_mask) const;
  void leave_undecided(uint64_t stripe, const Status& why);
  uint64_t note_failures(IoBatch& batch);
  uint64_t note_lacking(IoBatch& batch);
  io::Task<Status> write_pages();
  io::Task<Status> write_page_of(uint64_t stripe);
  io::Task<Status> write_pages_alone();

  // stripe_read.cc
  struct Part {  // of a piece, in one chunk
    uint32_t block = 0;
    uint64_t within_bytes = 0;
    Bytes into;
    bool asked = false;
  };
  io::Task<Status> read_piece(Piece piece, Bytes into);
  io::Task<Status> read_proved(const Piece* piece, Bytes into);
  io::Task<Status> read_settled(uint64_t stripe, const Part* part);
  std::vector<Part> parts_of(const Piece& piece, Bytes into) const;
  io::Task<Status> read_around(uint64_t stripe, const Part* part, uint64_t bad_mask);

  // stripe_cells.cc
  Trust trust_of(uint64_t stripe) const;
  io::Task<bool> fetch(uint32_t slot, uint64_t place_bytes, uint64_t length_bytes,
                       PinnedSums* pinned);
  io::Task<void> fetch_all(uint64_t slots_mask, uint64_t place_bytes, uint64_t length_bytes,
                           PinnedSums* pinned);
  void record(uint32_t slot, uint64_t place_bytes, ConstBytes bytes);
  void record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums);
  io::Task<bool> check(IoBatch* batch, uint64_t stripe, uint64_t* bad_mask);
  io::Task<void> read_columns(const Settle* what, Columns* columns, PinnedSums* pinned);
  io::Task<Status> settle(Settle what);
  io::Task<Status> settle_singly(Settle what);
  std::vector<Cell> cells_at(const Settle& what, Columns& columns, uint64_t at);
  void fix(const Settle& what, uint64_t at, const std::vector<Cell>& before,
           const std::vector<Cell>& cells, IoBatch* fixes);
  void note_fixes(IoBatch& fixes);
  Status undecided(uint64_t stripe, uint64_t within_bytes, const std::vector<Cell>& cells) const;
  io::Task<Status> prove_held(uint64_t stripe, std::vector<StripeFinding>* findings);

  // stripe_write.cc
  io::Task<Status> write_piece(Piece piece, ConstBytes from);
  io::Task<Status> write_whole(uint64_t stripe, ConstBytes from);
  io::Task<Status> write_part(Piece piece, ConstBytes from);
  std::vector<StripeJournal::Part> encode_parts(Work* work);
  io::Task<Status> read_old(Work* work);
  io::Task<Status> read_proved_old(Work* work);
  io::Task<Status> settle_bands(Work* work);
  void record_parts(const Work& work);
  io::Task<Status> put_in_place(Work* work, uint64_t lacking_mask);

  // stripe_rebuild.cc
  io::Task<Status> rebuild_slice(const Settle* slice, uint64_t targets_mask);

  // stripe_recover.cc
  io::Task<Status> all_or_failed(IoBatch* batch, const char* what);
  io::Task<Status> load_map(std::vector<std::vector<StripePageHead>>* heads);
  void adopt_pages(uint32_t first, ConstBytes bytes, std::span<StripePageHead> heads);
  io::Task<Status> replay(Uuid life, const std::vector<std::vector<StripePageHead>>* heads);
  io::Task<Status> replay_steps(const std::vector<ReplayStep>* steps,
                                const std::vector<io::AlignedBuffer>* rings);

  io::Loop& loop_;
  StripeLayout layout_;
  StripeMembers& members_;
  StripeSums* sums_;
  ParityCode code_;
  StripeMap map_;
  StripeJournal journal_;
  io::RangeLock stripes_;  // a byte for each stripe
  RegionSet unproved_;     // stripes: what is recorded of them may be old
  RegionSet doubtful_;     // … of these, though there was no crash
  std::vector<uint64_t> replayed_;
  std::set<uint64_t> undecided_;  // stripes: a write may yet be done or undone by recover()
  io::Mutex pages_mutex_;
  io::Event rows_freed_;
};

}  // namespace bb::raid
