// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "io/device.h"
#include "raid/checksums.h"
#include "raid/membership.h"
#include "raid/region_set.h"
#include "raid/resync_plan.h"
#include "raid/slow_member.h"

namespace bb::raid {

class ArrayCore;

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
  RegionSet behind;                 // recovering: what it lacks
  std::shared_ptr<Checksums> sums;  // of an array with integrity, while active
  uint64_t superblock_generation = 0;
  Uuid journal_life;  // as found at assembly, of levels with parity
  uint64_t journal_number = 0;
  uint32_t in_flight = 0;
  uint64_t last_end_bytes = 0;  // of reads, in its data
  uint64_t written_epoch = 0;   // flush epoch when its last write ended
  uint64_t flushed_epoch = 0;   // the latest flush that it completed
  uint64_t covered_epoch = 0;   // its recovery made durable what every flush up to this one had to
  uint64_t ready_since_ns = 0;
  bool may_return = true;  // it went away, rather than failed while it was there
  MemberWork work;         // up to the latest look at it
  SlowMember pace;
  uint64_t reads = 0, writes = 0, errors = 0, repaired = 0, checksum_errors = 0;

  struct Watcher final : io::DeviceWatcher {
    ArrayCore* core = nullptr;
    Member* member = nullptr;
    bool watching = false;
    void on_device_state(io::Device& device, io::DeviceState state) override;
  } watcher;

  uint64_t slot_bit() const { return uint64_t{1} << slot; }
  bool writable() const { return active && !suspect; }
  bool readable() const { return writable() && listed && state == MemberState::kInSync; }
  // All of these regions are still to be copied onto it, so nothing else has to bring them.
  bool lacks(RegionRange regions) const {
    return state == MemberState::kRecovering && behind.any_in(regions.first, 1) &&
           behind.any_in(regions.first + regions.count - 1, 1);
  }
  // The record calls it in-sync, or may do so: nothing is acknowledged without it.
  bool required() const { return listed && (state == MemberState::kInSync || promoting); }
  bool lost() const { return device != nullptr && device->incarnation() != incarnation; }
  bool unflushed() const { return written_epoch >= flushed_epoch && written_epoch != 0; }
};

}  // namespace bb::raid
