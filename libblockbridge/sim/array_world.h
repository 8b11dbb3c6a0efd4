// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/sync.h"
#include "raid/array.h"
#include "raid/region_set.h"
#include "sim/disk_model.h"
#include "sim/model_authority.h"
#include "sim/run_result.h"
#include "sim/sim_drive.h"
#include "sim/sim_net.h"

namespace bb::sim {

// One run of the array: drives, authority, one dataplane life after the other, a host that works,
// and faults. docs/SIMULATOR.md says what is tried and what is checked.
class ArrayWorld {
 public:
  explicit ArrayWorld(const RunOptions& options);
  RunResult run();
  bool drained() const { return done_; }  // nothing of it runs any more: it may be destroyed

 private:
  static constexpr size_t kDrivesMax = 14;

  // A drive slot of the world with what the fault budget knows of it.
  struct Slot {
    std::unique_ptr<SimDrive> drive;
    std::string label;           // names the member in the record
    bool fault_active = false;   // something is wrong with it now
    bool tainted = false;        // something was, and it is not yet seen to be whole again
    bool needs_rejoin = false;   // whole only by becoming in-sync anew, after `version`
    uint64_t version = 0;        // of the record when the fault struck
    uint64_t quiet_from_ns = 0;  // requests hit by the fault have ended by then
    bool lost_power = false;     // … and unflushed writes, since `lost_version`
    uint64_t lost_version = 0;
    uint64_t leaving_epoch = 0;  // of the life that may yet have its removal committed; 0: none
  };

  // A dataplane from start to crash or close.
  struct Life {
    Life(SimLoop& world, SimClock clock, Prng prng, uint64_t e)
        : node(world, clock, prng), epoch(e), hosts(node), admin(node) {}
    bool ended() const { return crashed || closing; }
    SimNode node;
    uint64_t epoch;
    std::unique_ptr<AuthorityClient> client;
    std::vector<std::unique_ptr<SimCable>> cables;  // by drive slot; null: not connected
    std::unique_ptr<raid::Array> array;
    io::TaskGroup hosts;
    io::TaskGroup admin;
    std::vector<DiskModel::OpId> pending;  // writes and flushes its host waits for
    uint32_t commands = 0;                 // of administration, under way
    bool starting = false;                 // create or assemble has not returned yet
    bool crashed = false;
    bool superseded = false;  // a newer life was started while this one ran
    bool closing = false;
  };

  // array_world.cc: what there is
  void add_drive(bool garbage);
  SimCable* cable(size_t slot);
  void connect(Life& life, size_t slot);
  std::unique_ptr<Life> make_life();
  raid::ArrayOptions array_options(uint64_t epoch);
  void crash(std::unique_ptr<Life> life);
  io::Task<void> drain(Life* life);
  io::Task<void> dismantle(Life* life);
  const raid::MemberRecord* member_of(size_t slot) const;
  void fail(std::string violation);
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);

  // array_run.cc: from start to end
  io::Task<void> main();
  io::Task<bool> create();
  io::Task<bool> start_life(std::vector<size_t> slots, uint64_t crash_within_ns);
  io::Task<bool> start_with_retries();
  io::Task<void> crash_later(Life* life, uint64_t delay_ns);
  void start_host(Life& life);
  io::Task<void> finish();
  io::Task<bool> converge();
  io::Task<void> verify_reads();
  const SectorStore* in_sync_medium(uint32_t slot, std::string* label) const;
  void verify_copies();
  io::Task<void> close_and_reopen();
  io::Task<void> reopen_without_some();

  // array_host.cc: the host's work and the backplane's healing
  io::Task<void> host_worker(Life* life, Prng prng);
  io::Task<void> host_write(Life* life, uint64_t first, uint64_t count, std::vector<std::byte>* buf,
                            bool fua);
  io::Task<void> host_clear(Life* life, uint64_t first, uint64_t count, bool discard);
  io::Task<void> host_read(Life* life, uint64_t first, uint64_t count, std::vector<std::byte>* buf);
  io::Task<void> host_flush(Life* life);
  void end_host_op(Life& life, DiskModel::OpId op, bool flush, const Status& status);
  void host_error(const Life& life, const Status& status);
  io::Task<void> healer(Life* life, Prng prng);
  io::Task<void> heal_member(Life* life, size_t slot, const raid::ArrayMemberInfo* info);

  io::Task<void> run_replace(Life* life, Uuid old, size_t slot, size_t fresh);
  void end_leaving(const Life& life, size_t slot, const Status& status);
  io::Task<void> run_fail(Life* life, Uuid member, size_t slot);

  // array_faults.cc: what goes wrong
  void refresh_budget();
  bool whole(size_t slot) const;
  bool all_whole() const;
  uint64_t whole_slots(size_t without) const;
  uint64_t sound_slots() const;
  bool may_fault(size_t slot) const;
  uint64_t latest_version() const;
  void strike(size_t slot, bool needs_rejoin);
  io::Task<void> nemesis();
  io::Task<void> one_action();
  void start_drive_fault(size_t slot);
  io::Task<void> drive_fault(size_t slot, uint32_t kind, uint64_t duration_ns);
  io::Task<void> lose_drive_power(size_t slot, uint64_t duration_ns);
  io::Task<void> stick_drive(size_t slot, uint64_t duration_ns);
  void damage_medium(size_t slot, bool rot);

  // array_silence.cc: drives that say nothing of what goes wrong
  bool may_lie() const;
  io::Task<void> lie_silently(size_t slot, uint64_t duration_ns);
  void rot(size_t slot);
  void mend_dirty_regions();
  raid::RegionSet dirty_regions() const;
  void mend_free_rows(size_t slot, bool newest_only);
  void mend(size_t slot, const std::function<bool(uint64_t place_bytes)>& wanted);
  std::vector<std::set<uint64_t>> regions_of_rows(bool newest_only) const;
  uint64_t wrong_sectors() const;
  io::Task<void> scrub(Life* life);
  io::Task<void> scrub_until_right();

  void reconnect(size_t slot);
  io::Task<void> disturb_authority(uint64_t duration_ns);
  io::Task<void> wait_for_commit();
  io::Task<void> restart_after_crash(bool all_power);
  io::Task<void> crash_and_restart(bool all_power);
  io::Task<void> lose_power_at_promotion();
  io::Task<bool> wait_for_promotion();
  io::Task<void> take_over();
  io::Task<void> replace_drive();
  io::Task<void> fail_by_hand();
  std::vector<size_t> answering_slots();

  uint64_t duration(uint64_t low_ns, uint64_t high_ns) { return prng_.between(low_ns, high_ns); }

  RunOptions options_;
  SimLoop world_;
  Prng prng_;
  SimNet net_;
  std::unique_ptr<io::Network> port_;
  ModelAuthority authority_;
  std::vector<Slot> slots_;
  std::unique_ptr<Life> life_;  // the newest; null between lives
  std::vector<std::unique_ptr<Life>> draining_;
  std::unique_ptr<DiskModel> model_;
  io::TaskGroup faults_;
  io::TaskGroup drains_;
  io::TaskGroup top_;

  Uuid uuid_;
  uint64_t epoch_ = 0;
  raid::Shape shape_;
  uint32_t block_ = 512;
  uint64_t drive_bytes_ = 0;
  uint64_t region_bytes_ = 65'536;
  uint64_t ops_left_ = 0;
  uint64_t hot_first_ = 0;
  uint64_t hot_count_ = 0;
  uint32_t workers_ = 1;
  uint64_t heal_pause_ns_ = 0;
  uint64_t clean_delay_ns_ = 0;
  bool auto_readmit_ = false;
  bool errors_allowed_ = false;
  bool authority_disturbed_ = false;
  bool bitmap_rotted_ = false;  // an unreadable page counts as dirty
  bool superblock_rotted_ = false;
  bool settling_ = false;  // phase 2: no more faults
  bool done_ = false;
  std::string violation_;
  RunStats stats_;
};

}  // namespace bb::sim
