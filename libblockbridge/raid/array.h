// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/units.h"
#include "io/context.h"
#include "io/device.h"
#include "raid/membership_authority.h"
#include "raid/scrub_view.h"

namespace bb::raid {

// A device that is, or shall become, a member. Borrowed (`device` outlives the array) or owned (the
// array closes and destroys it, also when create or assemble fails).
struct MemberDevice {
  io::Device* device = nullptr;
  std::unique_ptr<io::Device> owned;
  std::string label;  // for people; the device's URI when empty

  static MemberDevice borrow(io::Device& device, std::string label = {}) {
    MemberDevice member;
    member.device = &device;
    member.label = std::move(label);
    return member;
  }
  static MemberDevice own(std::unique_ptr<io::Device> device, std::string label = {}) {
    MemberDevice member;
    member.device = device.get();
    member.owned = std::move(device);
    member.label = std::move(label);
    return member;
  }
};

struct ArrayOptions {
  uint64_t epoch = 1;  // of this owner; a lower one than the record's is FENCED
  // How fast resync and scrub may go. Beside a host's I/O they go as fast as leaves its latency
  // (p99) below one and a half of what it is without them, but so fast at least (ResyncPace).
  uint64_t resync_bytes_per_second = 1 * GiB;
  uint64_t resync_busy_bytes_per_second = 16 * MiB;
  uint64_t scrub_bytes_per_second = 0;  // a limit for scrub alone, below the others; 0: none
  uint64_t commit_wait_ns = 30 * kNsPerSecond;  // how long a write waits for a commit, then fails
  uint64_t commit_retry_ns = 200 * kNsPerMs;    // pause between attempts to commit
  uint64_t clean_delay_ns = 2 * kNsPerSecond;  // how long a region stays dirty after its last write
  bool auto_readmit = false;                   // take a failed member back when it is ready again
  uint64_t readmit_delay_ns = 1 * kNsPerSecond;  // … and has stayed so for this long
  // How often members are compared: one that takes eight times as long as its peers, and 5 ms at
  // least, in three looks, is slow. It is read only where nobody else can be; after slow_fail_ns of
  // that (0: never) it is failed, if the array can do without it.
  uint64_t slow_check_ns = 1 * kNsPerSecond;
  uint64_t slow_fail_ns = 0;
  // Pages of 1008 checksums kept in memory, of all members together; 0: 1024 and one for each
  // 32 MiB of the array.
  uint64_t checksum_pages_max = 0;
};

struct ArrayCreate {
  std::string name;
  Uuid uuid;  // nil: a random one
  std::vector<MemberDevice> members;
  RaidLevel level = RaidLevel::k1;
  uint32_t copies = 0;       // of each block, of level 10; 0: 2
  uint64_t chunk_bytes = 0;  // not of level 1; 0: 64 KiB
  // Copies hold the same bytes already, or nobody will care. Levels 5 and 6 are zeroed in any case.
  bool assume_clean = false;
  // Unset: CRC-32C of every block where there is another copy to read, else none.
  std::optional<Integrity> integrity;
  bool force = false;  // take members that carry a valid superblock of another array
  uint64_t region_size_bytes =
      0;  // one bit of the bitmap; 0: chosen so that the bitmap stays small
  ArrayOptions options;
};

struct ArrayAssemble {
  Uuid uuid;                          // nil: of the first device that carries a superblock
  std::vector<MemberDevice> devices;  // whatever was found, in any order
  ArrayOptions options;
};

struct ArrayMemberInfo {
  Uuid uuid;
  MemberState state = MemberState::kInSync;  // as committed
  uint64_t generation = 0;
  uint32_t slot = 0;
  std::string label;
  bool present = false;       // a device is there and in use
  bool suspect = false;       // failed, the commit of that is under way
  bool slow = false;          // much slower than its peers: read only where nobody else can be
  std::string detail;         // why it failed or was left out
  uint64_t behind_bytes = 0;  // still to be copied onto it
  uint64_t reads = 0, writes = 0, errors = 0, repaired_ranges = 0;
  uint64_t checksum_errors = 0;  // blocks read that were not what was written
  Histogram read_ns, write_ns;   // how long its device took, since it was opened
};

struct ArrayInfo {
  Uuid uuid;
  std::string name;
  // "online", "online (degraded)", "online (resyncing 12%)", "online (recovering 12%)", "recover"
  // (no usable in-sync member: close and assemble again), "fenced", "stopping", "stopped"
  std::string state;
  std::string detail;  // why, when it is not plain "online"
  RaidLevel level = RaidLevel::k1;
  uint32_t slots = 0;        // members that the level has
  uint32_t copies = 1;       // of each block
  uint64_t chunk_bytes = 0;  // 0: every member holds everything
  Integrity integrity = Integrity::kNone;
  uint64_t version = 0, epoch = 0;
  std::string reason;  // of the last committed change
  uint64_t size_bytes = 0, region_size_bytes = 0;
  uint64_t regions = 0, dirty_regions = 0;
  uint64_t unequal_regions = 0;  // whose copies are still to be compared
  // Of the present or last resync: what it had to copy and what it copied, of each member.
  uint64_t resync_total_bytes = 0, resync_done_bytes = 0;
  uint64_t resynced_bytes = 0;          // written to members by resync, since the start
  uint64_t bitmap_writes = 0;           // page writes, all members together
  uint64_t degraded_since_wall_ns = 0;  // 0: not degraded
  std::vector<ArrayMemberInfo> members;
  std::vector<std::string> left_out;  // devices refused at assembly, each with its reason
};

class ArrayCore;

// What a scrub goes over: all of the array, or from `offset_bytes` on so much of it, in whole
// blocks of 4 KiB.
struct ScrubRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;           // 0: to the end
  uint64_t* progress_bytes = nullptr;  // how far it has come, for whoever looks; may be null
  const bool* cancelled = nullptr;     // true: it ends soon, with CANCELLED; may be null
};

// A scrub of the whole array (docs/decisions/015-scrub.md).
struct ScrubOptions {
  bool resume = false;  // goes on where an interrupted or paused one is, if there is one
  bool scheduled = false;
};
// What becomes of a scrub that is stopped: it waits for its operator; it goes on by itself some
// day; it has ended.
enum class ScrubStop : uint8_t { kPause, kSuspend, kCancel };

// RAID over devices that never lies (docs/decisions/003-raid1.md, 014-levels.md). A device itself:
// read, write, flush, write zeroes; discard becomes write zeroes, so that members stay equal. The
// memory of a write must not change before it is done, or the members would differ.
class Array final : public io::Device {
 public:
  // INVALID_ARGUMENT (too few or too many members, names, block sizes), NO_SPACE (too small),
  // ALREADY_EXISTS (a device listed twice or used by another array), what devices and authority
  // say. When it fails, no device carries a superblock of the array it tried to make.
  static io::Task<Result<std::unique_ptr<Array>>> create(io::Context context, ArrayCreate what,
                                                         MembershipAuthority* authority);
  // Starts what the committed record says, never what the drives say. Devices that do not belong to
  // it or are stale are left out, with the reason. Absent in-sync members are committed as failed
  // before the array serves anything. UNAVAILABLE with "recover" in its text: no in-sync member is
  // there. NOT_FOUND: no record. FENCED: the record has a newer epoch than the options.
  static io::Task<Result<std::unique_ptr<Array>>> assemble(io::Context context, ArrayAssemble what,
                                                           MembershipAuthority* authority);
  ~Array() override;

  ArrayInfo describe() const;
  const Uuid& uuid() const;

  // Committed when they return ok. TIMED_OUT: the authority does not answer; the outcome is
  // unknown, the array keeps finding out.
  io::Task<Status> fail_member(Uuid member, std::string reason);
  // A failed member comes back; only what it missed is copied. Without a device: the one it had.
  // Returns when it is recovering (wait_in_sync waits for the rest).
  io::Task<Status> readmit_member(Uuid member, MemberDevice device = {});
  // `fresh` takes the place of `old`, which is removed for good, or was and nobody has its place;
  // everything is copied onto it.
  io::Task<Status> replace_member(Uuid old, MemberDevice fresh, bool force = false);
  bool uses(const io::Device& device) const;  // as a member's
  // Forgets a failed or surplus member for good.
  io::Task<Status> remove_member(Uuid member);

  // Reads every copy and compares it with its checksum and with the others, or with parity; what is
  // wrong is rewritten from what a checksum or parity proves right, and from nothing else. With
  // parity whole stripes, and what is wrong in parity is told at the stripe's first byte. At the
  // rates of resync. INVALID_ARGUMENT, what members say.
  io::Task<Result<ScrubReport>> scrub(ScrubRange range);

  // The same for the whole array, kept on the members: where it is and what it found outlive crash,
  // restart and the move to another machine. Without `resume` one that was interrupted or paused is
  // cancelled. Returns when it ended or was stopped (CANCELLED). BAD_STATE: one runs. Where the
  // array does not serve (UNAVAILABLE, TIMED_OUT, FENCED, closed) it counts as interrupted; after
  // any other error it has failed.
  io::Task<Result<ScrubRun>> scrub_all(ScrubOptions options);
  // Of scrub_all: a running one ends soon. BAD_STATE: there is none, running or to be resumed.
  io::Task<Status> stop_scrub(ScrubStop how);
  // Looks for the log on the members, once; what cannot be read is no history.
  io::Task<void> load_scrub_log();
  ScrubInfo scrub_info() const;  // as far as loaded

  void set_scrub_rate(uint64_t bytes_per_second);  // ArrayOptions::scrub_bytes_per_second

  void set_resync_rate(uint64_t bytes_per_second, uint64_t busy_bytes_per_second);
  // Ok once nothing is left to copy; TIMED_OUT at the deadline, saying what is.
  io::Task<Status> wait_in_sync(uint64_t deadline_ns);

  // Waits for I/O in flight; leaves a clean bitmap if no member is missing; closes owned devices.
  io::Task<Status> close() override;

 protected:
  void do_submit(io::IoRequest& request) override;

 private:
  explicit Array(std::unique_ptr<ArrayCore> core);
  friend class ArrayCore;
  std::unique_ptr<ArrayCore> core_;
};

}  // namespace bb::raid
