// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutant.h"
#include "io/buffer.h"
#include "io/device_meter.h"
#include "io/range_lock.h"
#include "io/sync.h"
#include "raid/array.h"
#include "raid/copies.h"
#include "raid/direct_io.h"
#include "raid/fan_out.h"
#include "raid/pieces.h"
#include "raid/resync_pace.h"
#include "raid/resync_plan.h"
#include "raid/stripe_path.h"
#include "raid/superblock_io.h"
#include "raid/write_intent.h"

namespace bb::raid {

using io::LockMode;
using io::RangeLock;
using io::RangeTicket;

// Holds a range of the array from `co_await` on, until unlock() or its end.
class RangeHold : RangeTicket {
 public:
  RangeHold(ArrayCore& core, uint64_t offset_bytes, uint64_t length_bytes, LockMode lock_mode);
  RangeHold(const RangeHold&) = delete;
  ~RangeHold() { unlock(); }
  void unlock();
  bool await_ready();
  bool await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}

 private:
  struct Wake : io::Work {
    std::coroutine_handle<> handle;
  } wake_;
  ArrayCore& core_;
  bool skip_;
};

// A command that runs while the array is open.
struct Entered {
  io::Gate& gate;
  bool inside;
  explicit Entered(io::Gate& g) : gate(g), inside(g.enter()) {}
  Entered(const Entered&) = delete;
  ~Entered() {
    if (inside) gate.leave();
  }
};
inline Status closed_error() { return error(Code::k_bad_state, "the array is closed"); }

// How far the read of a piece has come.
struct Tried {
  MemberMask asked;
  MemberMask bad;  // of these, who is there but could not read it
  Status last;     // ok: nobody has failed yet
  Member* served = nullptr;
};

// What the parts of the array share: state here, each job in a file of its own.
class ArrayCore {
 public:
  ArrayCore(io::Context context, ArrayOptions options, MembershipAuthority* authority,
            const MembershipRecord& record);
  ~ArrayCore();

  // assemble.cc, create.cc
  Member& add_member(const Uuid& uuid);
  Member* find_member(const Uuid& uuid) const;
  void attach(Member& member, MemberDevice device);
  void start_background();
  io::Task<Status> open_stripes();

  // array.cc
  io::Task<void> serve(io::IoRequest* request);
  uint64_t host_came();  // when, for host_left()
  void host_left(uint64_t came_ns);
  Status failure_of(const io::IoRequest& request, const Status& status) const;
  ArrayInfo describe() const;
  io::Task<Status> close();
  std::string state_text(std::string* detail) const;

  // write_path.cc
  io::Task<Status> write(const io::IoRequest* request);
  io::Task<Status> write_held(const io::IoRequest* request);
  io::Task<Status> write_stripes(const io::IoRequest* request);
  io::Task<Status> write_stripes_held(const io::IoRequest* request);
  io::Task<Status> write_locked(const io::IoRequest* request, RegionRange regions);
  io::Task<Status> write_members(const io::IoRequest* request);
  Status note_written(FanOut& fan, uint64_t slots, MemberMask* ok_mask);
  uint64_t add_copies(FanOut& fan, MemberRuns& runs, const io::IoRequest& request);  // their slots
  io::Task<Status> write_zeroes(io::IoRequest* request);
  io::Task<Status> flush();
  io::Task<Result<uint64_t>> flush_stripes();
  // Flushes every active member; its number once all of them did and nobody is missing, else 0.
  io::Task<Result<uint64_t>> flush_members();
  void after_failed_write(RegionRange regions);

  // read_path.cc; a piece lies in one chunk
  io::Task<Status> read(io::IoRequest* request);
  io::Task<Status> read_stripes(io::IoRequest* request);
  io::Task<Status> read_held(io::IoRequest* request, Tried tried = {});
  io::Task<Status> read_pieces(io::IoRequest* request);
  io::Task<bool> read_runs(io::IoRequest* request, MemberMask* failed);
  io::Task<Status> read_piece(io::IoRequest* piece, MemberMask first, Tried tried = {});
  io::Task<Status> read_any(io::IoRequest* piece, Tried* tried, MemberMask first = {});
  Status as_answered(const Member& member, Status status) const;
  void note_unread(Member& member, const Status& status, Tried* tried);
  // One block may be wrong on this member and another one on that.
  static bool blocks_may_do(const Status& status, uint64_t length_bytes) {
    return is_medium_error(status) && length_bytes > kCheckedBlockBytes;
  }
  bool perhaps_another(uint64_t offset_bytes, const MemberMask& tried);
  Member* choose_holder(uint64_t offset_bytes, const MemberMask& tried, uint64_t* place_bytes);

  // equal_path.cc
  io::Task<Status> read_unequal(io::IoRequest* request);
  io::Task<Status> read_unequal_held(io::IoRequest* request);
  using Wanted = std::function<bool(const Member&)>;
  io::Task<Status> copy_from_one(io::IoRequest* piece, Wanted wanted, Member** source,
                                 MemberMask* ok_mask);
  io::Task<Status> equalise(io::IoRequest* piece);
  io::Task<Status> equalise_once(io::IoRequest* piece, bool* again);
  io::Task<bool> repair(io::IoRequest* piece, MemberMask members_mask);  // all of them took it
  void note_repair(const io::IoRequest& piece, FanOut::Leg& leg, bool may_suspect);
  bool has_unequal(RegionRange regions) const;

  // copies.cc
  io::Task<Status> read_copies(io::IoRequest* piece, std::vector<CopyOfPiece>* copies);

  // scrub.cc
  io::Task<Result<ScrubReport>> scrub(ScrubRange range);
  io::Task<void> keep_to_scrub_rate(uint64_t bytes);
  io::Task<Status> scrub_stripe(uint64_t stripe, ScrubReport* report);
  io::Task<Status> scrub_piece(uint64_t offset_bytes, uint64_t length_bytes, ScrubReport* report);
  io::Task<Result<bool>> settle_scrubbed(uint64_t offset_bytes, ConstBytes block, MemberMask wrong);

  // scrub_life.cc
  io::Task<void> load_scrub_log();
  io::Task<void> read_scrub_logs();
  io::Task<void> write_scrub_log();
  ScrubInfo scrub_info() const;
  io::Task<Result<ScrubRun>> scrub_all(ScrubOptions options);
  io::Task<Status> scrub_slices();
  io::Task<Status> stop_scrub(ScrubStop how);

  // agree.cc; of arrays with integrity
  io::Task<Status> agree(io::IoRequest* piece, bool* again);

  // part_blocks.cc; of arrays with integrity
  bool whole_blocks(const io::IoRequest& request) const {
    return (request.offset_bytes | request.length_bytes) % kCheckedBlockBytes == 0;
  }
  io::Task<Status> read_parts(io::IoRequest* request);
  io::Task<Status> write_parts(const io::IoRequest* request);
  io::Task<Status> read_settled(io::IoRequest* request);

  // checked_path.cc; of arrays with integrity, and in whole blocks
  struct SumsPage {
    Member* member = nullptr;
    std::shared_ptr<Checksums> sums;
    uint64_t page = 0;
    io::AlignedBuffer buffer;
    iovec memory{};
  };
  bool checked() const { return geometry_.checked(); }
  RegionRange rows_of_sums(uint64_t page) const;
  std::vector<uint64_t> regions_of_sums(uint64_t page) const;
  io::Task<Status> doubt_sums(uint64_t page);
  io::Task<Status> fetch_sums(Member* member, uint64_t place_bytes, uint64_t length_bytes);
  io::Task<Result<bool>> fetch_page(Member* member, Checksums* sums, uint64_t page);
  io::Task<void> make_room_for_sums();
  io::Task<Status> fetch_for_write(const io::IoRequest* request);
  void record_sums(Member& member, uint64_t place_bytes, std::span<const uint32_t> sums);
  void record_write(const io::IoRequest& request);
  bool has_sums(const io::IoRequest& piece);  // of all who are written to
  io::Task<Status> verify(Member* member, uint64_t place_bytes, std::span<const iovec> memory);
  Status compare_sums(Member& member, uint64_t place_bytes, const BlockSums& found);
  io::Task<Status> write_sums(uint64_t flush);
  io::Task<Status> flush_for_sums(std::span<const SumsPage> pages);
  io::Task<Status> write_sums_at_once(std::span<SumsPage> pages);

  // members_answer.cc
  // Legs that write a piece's memory to those who hold it and are `wanted`; their slots. Checksums
  // have been fetched.
  template <typename IsWanted>
  uint64_t write_holders(FanOut& fan, const io::IoRequest& piece, IsWanted wanted) {
    uint64_t slots = 0;
    BlockSums sums;
    if (checked()) sums.compute({piece.iov, piece.iov_count});
    for_each_holder(piece.offset_bytes, [&](Member& member, uint64_t place_bytes) {
      if (!wanted(member)) return;
      if (checked()) record_sums(member, place_bytes, sums.values());
      fan.add(member, {.op = io::IoOp::kWrite,
                       .offset_bytes = geometry_.data_offset_bytes + place_bytes,
                       .length_bytes = piece.length_bytes,
                       .iov = piece.iov,
                       .iov_count = piece.iov_count});
      slots |= member.slot_bit();
    });
    return slots;
  }
  // Calls each(member, place in its data) for those who hold a copy of this byte of the array.
  template <typename Each>
  void for_each_holder(uint64_t offset_bytes, Each each) {
    const Shape& shape = geometry_.shape;
    for (uint32_t copy = 0; copy < shape.copies; ++copy) {
      CopyPlace place = copy_place(shape, offset_bytes, copy);
      for (Member* member : holders_[place.slot]) each(*member, place.offset_bytes);
    }
  }
  // The slots of all who hold a piece.
  uint64_t slots_of(const io::IoRequest& piece) {
    uint64_t slots = 0;
    for_each_holder(piece.offset_bytes,
                    [&slots](Member& member, uint64_t) { slots |= member.slot_bit(); });
    return slots;
  }
  // The same for a range, piece by piece: each(member, place in its data, where in the range,
  // length).
  template <typename Each>
  void for_each_copy(const io::IoRequest& request, Each each) {
    uint64_t end = request.offset_bytes + request.length_bytes;
    for (uint64_t at = request.offset_bytes; at < end;) {
      uint64_t length = first_piece(geometry_.shape, at, end - at).length_bytes;
      for_each_holder(at, [&](Member& member, uint64_t place) {
        each(member, place, at - request.offset_bytes, length);
      });
      at += length;
    }
  }
  bool enough(const MemberMask& ok_mask, uint64_t slots) const;
  Status judge(FanOut& fan, uint64_t slots, MemberMask* ok_mask);

  // bitmap_writer.cc
  io::Task<Status> persist(RegionRange regions);
  io::Task<Status> persist_all();
  io::Task<void> bitmap_loop();
  io::Task<MemberMask> write_pages();  // the members that have them all
  io::Task<void> clean_loop();
  bool may_clean() const;

  // membership_driver.cc
  using Edit = std::function<Status(MembershipRecord&)>;
  io::Task<Status> change(Edit edit, uint64_t deadline_ns);
  io::Task<Status> reload(bool* moved);
  void adopt(MembershipRecord record);
  void fence(std::string why);
  void suspect(Member& member, std::string why);
  void check_leg(FanOut::Leg& leg);
  bool holds_all(const Member* without = nullptr) const;  // the readable members do
  bool may_serve() const;
  Status usable() const;
  Status needed(const MembershipRecord& record, const MemberRecord& member) const;
  bool settled(const MemberMask& ok_mask, uint64_t slots, Member** lacking,
               uint64_t flush = 0) const;
  io::Task<Status> settle(MemberMask ok_mask, uint64_t slots, uint64_t flush = 0);
  std::vector<Member*> keepers();
  bool may_resume();
  bool resume_keepers();
  bool commit_wanted() const;
  io::Task<void> membership_loop();
  void on_device_state(Member& member, io::DeviceState state);

  // member_changes.cc
  io::Task<Status> fail_member(Uuid uuid, std::string reason);
  io::Task<Status> readmit_member(Uuid uuid, MemberDevice device);
  io::Task<Status> replace_member(Uuid old, MemberDevice fresh, bool force);
  io::Task<Status> remove_member(Uuid uuid);
  io::Task<Status> take_device(Member* member, MemberDevice device);
  Status check_fits(const io::Device& device, const std::string& label) const;
  io::Task<Status> check_returning(Member* member, RegionSet* own);
  io::Task<Status> check_fresh(Uuid old, io::Device* device, std::string label, bool force);
  io::Task<Status> commit_replacement(Uuid old, MemberRecord entry);
  io::Task<Status> promote(Member* member);
  io::Task<Status> write_member_superblock(Member* member, uint64_t version);
  io::Task<void> readmit_loop();
  io::Task<Status> take_in(Member* member, bool everything);
  Superblock superblock_of(const MemberRecord& member) const;
  void activate(Member& member, RegionSet behind);

  // slow_loop.cc
  io::Task<void> slow_loop();
  void judge_paces();
  io::Task<void> fail_slow_members();

  // resync.cc
  bool resync_wanted() const;
  io::Task<void> resync_loop();
  io::Task<void> resync_worker(io::AlignedBuffer* buffer, size_t index, uint64_t* budget,
                               bool* failed);
  io::Task<Status> rebuild_extent(RegionRange regions);
  io::Task<void> keep_to_rate(uint64_t bytes);
  bool host_busy() const;
  io::Task<Status> copy_extent(ResyncExtent extent, io::AlignedBuffer* buffer);
  bool wants_copy(const ResyncExtent& extent, uint64_t offset_bytes);
  io::Task<Status> copy_piece(ResyncExtent extent, uint64_t offset_bytes, uint64_t length_bytes,
                              io::AlignedBuffer* buffer);
  io::Task<void> end_round();
  void count_resync_total();
  uint64_t resync_pending_regions() const;
  std::vector<BehindSet> behind_sets();
  io::Task<Status> wait_in_sync(uint64_t deadline_ns);

  template <typename... Args>
  Status fail(Code code, fmt::format_string<Args...> format, Args&&... args) const {
    return error(code, "{}", fmt::format(format, std::forward<Args>(args)...));
  }
  void changed() {
    changed_.set();
    changed_.reset();
    if (stripes_) stripes_->wake();
  }
  static std::string name_of(const Member& member);

  io::Context context_;
  io::Loop& loop_;
  ArrayOptions options_;
  MembershipAuthority* authority_;
  MembershipRecord record_;      // as committed, as far as we know
  bool record_unknown_ = false;  // a commit is under way or its outcome not known
  uint32_t clean_hold_ = 0;
  Geometry geometry_;
  bool tracked_;           // else there is nothing to make equal, and no bitmap
  bool complete_ = false;  // every slot has an in-sync member by the record
  WriteIntent intent_;
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<std::vector<Member*>> holders_;  // by slot: listed and not removed
  RangeLock ranges_;
  std::unique_ptr<StripePath> stripes_;  // of levels with parity
  RegionSet unequal_;   // in-sync members may differ (rule 6), or from what is recorded of them
  RegionSet doubtful_;  // of these, no write was under way: only their checksums were damaged
  RegionSet copied_;    // of these, copied but not yet flushed
  RegionSet flushing_;  // … and the flush is under way
  uint32_t transfer_max_bytes_ = 1u << 20;
  uint64_t created_wall_ns_ = 0;

  bool draining_ = false;  // no new I/O
  bool closing_ = false;   // nobody waits for members or the authority any more
  bool stop_background_ = false;
  bool closed_ = false;
  std::string fenced_;  // why; empty: not fenced
  uint32_t host_in_flight_ = 0;
  uint64_t host_last_ns_ = 0;
  uint32_t rotation_ = 0;

  io::Event changed_;       // broadcast: membership or suspicion changed
  io::Event bitmap_done_;   // broadcast: a batch of pages ended
  io::Event sums_fetched_;  // broadcast: so has a page of checksums
  io::Event bitmap_work_, membership_work_, resync_work_, readmit_work_, stop_;
  uint64_t batches_begun_ = 0, batches_done_ = 0;
  uint64_t sums_max_;  // pages of checksums in memory
  std::vector<io::AlignedBuffer> pages_;
  Status bitmap_error_;  // of the latest batch that no in-sync member took
  uint64_t bitmap_failures_ = 0;
  io::Mutex membership_mutex_, superblock_mutex_, sums_mutex_, command_mutex_;
  io::TaskGroup host_io_, background_;
  std::vector<std::unique_ptr<DirectIo>> idle_direct_;
  io::Gate direct_;  // those that are not idle
  io::Gate commands_;

  ScrubInfo scrub_;
  uint64_t scrub_slice_bytes_ = 0;  // done of what is not yet in scrub_
  bool scrub_stopping_ = false;
  ScrubStop scrub_stop_ = ScrubStop::kSuspend;
  io::Mutex scrub_mutex_;  // reads and writes of the log
  Throttle scrub_throttle_;
  Throttle throttle_;
  ResyncPace pace_;
  uint64_t resync_cursor_ = 0;
  uint64_t resync_done_regions_ = 0, resync_total_regions_ = 0;
  uint64_t resync_done_bytes_ = 0;
  uint64_t resynced_bytes_ = 0, bitmap_writes_ = 0, degraded_since_wall_ns_ = 0;
  std::vector<std::string> left_out_;
};

// checked_path.cc: how many pages of checksums an array keeps in memory.
uint64_t checksum_pages_max(uint64_t array_bytes);
// create.cc
io::Task<Status> write_blank_bitmap(io::Device* device, Uuid array, Geometry geometry, bool dirty);
// Nothing is recorded of any block; nothing to do without integrity.
io::Task<Status> write_blank_checksums(io::Device* device, Geometry geometry);
io::Task<Status> zero_range(io::Device* device, uint64_t at_bytes, uint64_t end_bytes);
// Closes what the array would have owned.
io::Task<void> close_members(std::vector<MemberDevice> devices);

}  // namespace bb::raid
