// SPDX-License-Identifier: Apache-2.0
// pure: what a disk may answer, given what was asked of it
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace bb::sim {

// The checker of everything that looks like a disk. It knows for each 512-byte sector which writes
// may be its contents now, and says so when a read returns anything else. docs/SIMULATOR.md states
// the rules in words.
class DiskModel {
 public:
  using OpId = uint32_t;
  static constexpr uint64_t kSectorBytes = 512;

  explicit DiskModel(uint64_t sectors);

  uint64_t sectors() const { return sectors_.size(); }

  // A write or (zeroes) a clearing of sectors. Its contents name it: fill() makes them.
  OpId begin_write(uint64_t first, uint64_t count, bool zeroes, bool fua);
  void fill(OpId op, uint64_t first, Bytes into) const;
  // ok: acknowledged. Otherwise it failed, or its host lost sight of it: it may have happened in
  // any part, but will not happen later than now.
  void end_write(OpId op, bool ok);

  OpId begin_flush();
  void end_flush(OpId op, bool ok);

  OpId begin_read();
  // Empty, or what is wrong with the bytes read.
  std::string end_read(OpId read, uint64_t first, ConstBytes bytes);
  void drop_read(OpId read);  // failed, or of no meaning

  // A copy that may be used has lost what it had not flushed: every sector may be any of its
  // contents since the last flush.
  void lose_unflushed();

  uint64_t reads_checked() const { return reads_checked_; }

 private:
  struct Op {
    uint64_t first = 0;
    uint64_t count = 0;
    uint64_t begin = 0;
    uint64_t end = UINT64_MAX;
    bool zeroes = false;
    bool fua = false;
  };
  // One write that may be the contents of a sector, or was.
  struct Candidate {
    OpId op = 0;
    uint64_t gone = UINT64_MAX;  // when it stopped to be possible
    bool lossy = false;          // may come back when unflushed writes are lost
    bool live() const { return gone == UINT64_MAX; }
  };
  struct Sector {
    std::vector<Candidate> candidates;  // empty: zeroes, never written
    bool listed = false;                // in lossy_sectors_
  };

  bool ended_before(OpId op, uint64_t when) const { return ops_[op].end < when; }
  void displace(uint64_t sector, Candidate& candidate, bool lossy);
  void forget(Sector& sector) const;
  uint64_t oldest_read() const;
  std::string check_sector(uint64_t begin, uint64_t sector, const std::byte* bytes);
  std::string describe(uint64_t sector, std::string_view problem) const;
  void collapse(uint64_t begin, uint64_t sector, bool zeroes, OpId seen);

  uint64_t now_ = 1;
  uint64_t lost_ = 0;  // when unflushed writes were last lost
  std::vector<Op> ops_;
  std::vector<Sector> sectors_;
  std::vector<uint64_t> lossy_sectors_;
  std::vector<std::pair<OpId, uint64_t>> reads_;  // in flight, with their beginnings
  uint64_t reads_checked_ = 0;
};

}  // namespace bb::sim
