// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backplane/array_book.h"
#include "backplane/backplane_set.h"
#include "backplane/query.h"
#include "backplane/scrub_schedule.h"
#include "io/stats_report.h"
#include "raid/array.h"

namespace bb::backplane {

struct ArrayServices {
  io::Context context;
  BackplaneSet* backplanes = nullptr;
  ArrayBook* book = nullptr;
  raid::MembershipAuthority* authority = nullptr;
  OwnerIdentity us;
  // DataplaneConfig
  uint64_t slow_fail_ns = 0;
  ScrubSchedule scrub;
  uint64_t scrub_bytes_per_second = 0;
};

struct ArrayCreateRequest {
  std::string name;
  raid::Shape shape;
  Query query;
  bool spread = true;
  uint64_t region_bytes = 0;
  bool assume_clean = false;
  std::optional<raid::Integrity> integrity;  // unset: what the level has by itself
};

// An array with all that keeps it alive: claims on its drives, connections to them, assembly after
// a restart, and taking members back when their disk node returns.
class ManagedArray {
 public:
  // Told once, when the array first serves I/O.
  using OnOnline = std::function<Status(ManagedArray&)>;

  ManagedArray(ArrayServices services, ArrayBook::Entry entry, OnOnline on_online);
  ~ManagedArray();

  // Claims drives, opens them and makes the array. On failure: discard().
  io::Task<Status> create(ArrayCreateRequest request);
  // Takes over what the book says: higher epoch, claims, assembly. Works in the background.
  void resume();
  // Closes array and connections; claims stay. Once, before destruction.
  io::Task<void> stop();
  // After stop(): gives the claims back as far as disk nodes answer. The book's record then says
  // "removing", and whoever sweeps gives back the rest.
  io::Task<Status> discard();

  const ArrayRecord& record() const { return entry_.record; }
  const ArrayBook::Entry& entry() const { return entry_; }
  raid::Array* array() { return array_.get(); }  // null until assembled
  Json describe() const;
  void collect(io::StatsReport* into) const;  // the array and its members, as far as they are open

  // `drive`: an id, "node/slot", or the member's uuid. An operator's failure holds the drive out
  // until he readmits it, over restarts too.
  io::Task<Status> fail(std::string drive);
  io::Task<Status> readmit(std::string drive);
  // In the background; describe() tells how far it is and what it found. BAD_STATE: one runs.
  // `resume`: goes on with one that was interrupted or paused, if there is one.
  Status start_scrub(raid::ScrubOptions options);
  // BAD_STATE: there is none.
  io::Task<Status> stop_scrub(raid::ScrubStop how);

 private:
  struct Slot {
    ArrayDrive drive;
    std::unique_ptr<io::Device> device;
    std::string trouble;  // why there is no device
    bool attaching = false;
    uint64_t retry_ns = 0;
    uint64_t ready_since_ns = 0;
  };
  io::Task<Status> claim_drives(const ArrayCreateRequest* request);
  io::Task<Status> claim_choice(const BackplaneSet::Inventory* inventory, const Choice* choice,
                                size_t* failed);
  io::Task<Status> open_members();
  io::Task<void> release_drives();
  io::Task<void> attach(Slot* slot, Status* result);
  io::Task<Status> attach_now(Slot* slot);
  io::Task<void> attach_in_background(Slot* slot);
  io::Task<void> run();
  io::Task<Status> raise_epoch();
  void attach_missing();
  io::Task<Status> try_assemble();
  io::Task<void> take_back_members();
  bool may_return(Slot* slot, const raid::ArrayMemberInfo& member);
  io::Task<Status> set_held_out(Slot* slot, bool held_out);
  ClaimRequest claim_request() const;
  Slot* find_slot(const Uuid& drive);
  Slot* slot_of_member(const raid::ArrayMemberInfo& member) const;
  Result<raid::ArrayMemberInfo> find_member(std::string_view drive) const;
  void came_online();
  io::Task<void> tend_scrub();
  io::Task<void> run_scrub(raid::ScrubOptions options);

  ArrayServices services_;
  ArrayBook::Entry entry_;
  OnOnline on_online_;
  std::vector<std::unique_ptr<Slot>> slots_;  // one a drive of the record
  std::unique_ptr<raid::Array> array_;
  std::string trouble_;  // why there is no array
  bool owns_epoch_ = false;
  uint64_t started_ns_ = 0;
  bool stopped_ = false;
  bool scrubbing_ = false;      // run_scrub() is under way
  uint64_t scrub_next_ns_ = 0;  // not begun by itself before, after one that did not get on
  io::Event stopping_;
  io::TaskGroup tasks_;
};

}  // namespace bb::backplane
