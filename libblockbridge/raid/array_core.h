// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutant.h"
#include "io/buffer.h"
#include "io/range_lock.h"
#include "io/sync.h"
#include "raid/array.h"
#include "raid/resync_plan.h"
#include "raid/superblock_io.h"
#include "raid/write_intent.h"

namespace bb::raid {

using io::LockMode;
using io::RangeLock;
using io::RangeTicket;

inline constexpr uint32_t kMembersEver =
    64;  // in one life of an array object; a bit of a mask each

// A member as this array knows it. What is committed comes from the record by adopt() only.
struct Member {
  uint32_t index = 0;
  Uuid uuid;
  std::string label;
  // Committed.
  bool listed = false;
  MemberState state = MemberState::kFailed;
  uint64_t generation = 0;
  uint32_t slot = 0;
  // Ours.
  io::Device* device = nullptr;
  std::unique_ptr<io::Device> owned;
  bool active = false;     // gets writes, flushes and bitmap pages
  bool suspect = false;    // failed us; not used again until that is committed
  bool promoting = false;  // a commit to in-sync may have happened
  std::string detail;
  uint64_t incarnation = 0;
  RegionSet behind;  // recovering: what it lacks
  uint64_t superblock_generation = 0;
  uint32_t in_flight = 0;
  uint64_t last_end_bytes = 0;
  uint64_t written_epoch = 0;  // flush epoch when its last write ended
  uint64_t flushed_epoch = 0;  // the latest flush that it completed
  uint64_t covered_epoch = 0;  // its recovery made durable what every flush up to this one had to
  uint64_t ready_since_ns = 0;
  bool may_return = true;  // it went away, rather than failed while it was there
  uint64_t reads = 0, writes = 0, errors = 0, repaired = 0;

  struct Watcher final : io::DeviceWatcher {
    ArrayCore* core = nullptr;
    Member* member = nullptr;
    bool watching = false;
    void on_device_state(io::Device& device, io::DeviceState state) override;
  } watcher;

  bool writable() const { return active && !suspect; }
  bool readable() const { return writable() && listed && state == MemberState::kInSync; }
  // The record calls it in-sync, or may do so: nothing is acknowledged without it.
  bool required() const { return listed && (state == MemberState::kInSync || promoting); }
  bool lost() const { return device != nullptr && device->incarnation() != incarnation; }
  bool unflushed() const { return written_epoch >= flushed_epoch && written_epoch != 0; }
  uint64_t bit() const { return uint64_t{1} << index; }
};

// The same I/O on several members at once: one coroutine waits, nothing is allocated.
class FanOut {
 public:
  struct Leg : io::IoRequest {
    FanOut* fan = nullptr;
    Member* member = nullptr;
    Status status;
  };
  struct Io {
    io::IoOp op = io::IoOp::kWrite;
    uint64_t offset_bytes = 0;  // on the member
    uint64_t length_bytes = 0;
    const iovec* iov = nullptr;
    uint32_t iov_count = 0;
    bool fua = false;
    bool may_discard = false;
  };
  explicit FanOut(ArrayCore& core) : core_(core) {}
  FanOut(const FanOut&) = delete;

  void add(Member& member, const Io& io);
  uint32_t count() const { return count_; }
  Leg& leg(uint32_t i) { return legs_[i]; }

  bool await_ready() const { return count_ == 0; }
  bool await_suspend(std::coroutine_handle<> caller);
  void await_resume() const {}

 private:
  static void on_done(io::IoRequest* request, Status status);
  ArrayCore& core_;
  Leg legs_[kMembersActiveMax];
  uint32_t count_ = 0;
  uint32_t pending_ = 0;
  std::coroutine_handle<> waiter_;
};

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

// What the parts of the array share: state here, each job in a file of its own.
class ArrayCore {
 public:
  ArrayCore(io::Context context, ArrayOptions options, MembershipAuthority* authority,
            const MembershipRecord& record);
  ~ArrayCore();

  // assemble.cc, create.cc
  Member& add_member(const Uuid& uuid);
  Member* find_member(const Uuid& uuid);
  void attach(Member& member, MemberDevice device);
  void start_background();

  // array.cc
  io::Task<void> serve(io::IoRequest* request);
  ArrayInfo describe() const;
  io::Task<Status> close();
  std::string state_text(std::string* detail) const;

  // write_path.cc
  struct Write {
    FanOut::Io io;  // offset in the array
  };
  io::Task<Status> write(Write write);
  io::Task<Status> write_locked(Write write, RegionRange regions);
  io::Task<Status> write_members(Write write, RegionRange regions);
  io::Task<Status> write_zeroes(io::IoRequest* request);
  io::Task<Status> flush();
  // Flushes every active member; its number once all of them did and nobody is missing, else 0.
  io::Task<Result<uint64_t>> flush_members();
  void after_failed_write(RegionRange regions);

  // read_path.cc
  io::Task<Status> read(io::IoRequest* request);
  io::Task<Status> read_any(io::IoRequest* request, uint64_t* tried_mask, Member** served);
  io::Task<Status> read_unequal(io::IoRequest* request);
  io::Task<Status> equalise(io::IoRequest* request, bool* again);
  io::Task<void> repair(io::IoRequest* request, uint64_t members_mask);
  bool has_unequal(RegionRange regions) const;

  // bitmap_writer.cc
  io::Task<Status> persist(RegionRange regions);
  io::Task<Status> persist_all();
  io::Task<void> bitmap_loop();
  io::Task<uint64_t> write_pages();  // mask of the members that have them all
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
  bool usable_member() const;
  bool may_serve() const;
  Status usable() const;
  bool settled(uint64_t ok_mask, Member** lacking, uint64_t flush = 0) const;
  io::Task<Status> settle(uint64_t ok_mask, uint64_t flush = 0);
  bool resume_keeper();
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
  void activate(Member& member, RegionSet behind);

  // resync.cc
  bool resync_wanted() const;
  io::Task<void> resync_loop();
  io::Task<void> resync_worker(io::AlignedBuffer* buffer, uint64_t* budget, bool* failed);
  io::Task<Status> copy_extent(ResyncExtent extent, io::AlignedBuffer* buffer);
  io::Task<Status> copy_chunk(ResyncExtent extent, uint64_t offset_bytes, uint64_t length_bytes,
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
  WriteIntent intent_;
  std::vector<std::unique_ptr<Member>> members_;
  RangeLock ranges_;
  RegionSet unequal_;   // in-sync members may differ (rule 6)
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
  ReadCandidate candidates_[kMembersEver];  // scratch of read_any, never across a wait

  io::Event changed_;      // broadcast: membership or suspicion changed
  io::Event bitmap_done_;  // broadcast: a batch of pages ended
  io::Event bitmap_work_, membership_work_, resync_work_, readmit_work_, stop_;
  uint64_t batches_begun_ = 0, batches_done_ = 0;
  std::vector<io::AlignedBuffer> pages_;
  Status bitmap_error_;  // of the latest batch that no in-sync member took
  uint64_t bitmap_failures_ = 0;
  io::Mutex membership_mutex_, superblock_mutex_, command_mutex_;
  io::TaskGroup host_io_, background_;
  io::Gate commands_;

  Throttle throttle_;
  uint64_t resync_cursor_ = 0;
  uint64_t resync_done_regions_ = 0, resync_total_regions_ = 0;
  uint64_t resync_done_bytes_ = 0;
  uint64_t resynced_bytes_ = 0, bitmap_writes_ = 0, degraded_since_wall_ns_ = 0;
  std::vector<std::string> left_out_;
};

// create.cc
io::Task<Status> write_blank_bitmap(io::Device* device, Uuid array, Geometry geometry, bool dirty);
// Closes what the array would have owned.
io::Task<void> close_members(std::vector<MemberDevice> devices);

}  // namespace bb::raid
