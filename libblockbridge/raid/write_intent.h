// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/uuid.h"
#include "raid/geometry.h"
#include "raid/region_set.h"

namespace bb::raid {

// The write-intent bitmap in memory: which regions are dirty, which of that the members know, when
// a bit may go. One batch of page writes is under way at a time, so that pages never overtake each
// other; writes that arrive meanwhile share the next batch.
class WriteIntent {
 public:
  WriteIntent(Uuid array, Geometry geometry);

  // --- writes
  void begin(RegionRange regions);  // sets the bits, counts the write as in flight
  void end(RegionRange regions);
  bool durable(RegionRange regions) const;  // every member has the bits: data may be written
  // Bits without a write in flight: what an unclean start or a returning member brings.
  void mark(const RegionSet& regions);
  void mark_all();

  // --- pages
  bool batch_wanted() const { return wanted_count_ > 0; }
  void request(RegionRange regions);  // pages that hold bits of these not yet durable
  void request_all();
  // Starts a batch: from now on bits that go away are not relied on. The pages to write.
  const std::vector<uint32_t>& batch_begin();
  void encode(uint32_t page, Bytes into) const;
  void batch_end(bool written);  // not written: nobody may rely on it, and it is wanted again

  // --- flushes and cleaning (rule 2)
  // A flush of every member is about to begin; returns its number.
  uint64_t flush_begin() { return ++epoch_; }
  void flush_end(uint64_t flush);  // it succeeded everywhere
  uint64_t flushed() const { return flushed_; }
  // Clears every bit whose region has no write in flight and none that ended after `flush` began,
  // and which is not in `keep`; wants the pages written. How many were cleared.
  uint64_t clean(uint64_t flush, const RegionSet& keep);

  // Would it clear one of these? Later it would clear no others of them.
  bool may_clean_any(RegionRange regions, uint64_t flush) const;

  const std::vector<uint32_t>& batch() const { return batch_; }
  const RegionSet& dirty() const { return dirty_; }
  uint64_t epoch() const { return epoch_; }
  uint32_t in_flight(uint64_t region) const { return regions_[region].in_flight; }
  const Geometry& geometry() const { return geometry_; }

 private:
  struct Region {
    uint32_t ended = 0;  // the flush that was the latest to begin when its last write ended
    uint32_t in_flight = 0;
  };
  void want(uint64_t page);
  bool batch_has(uint64_t region) const;
  bool covered(uint64_t region, uint64_t flush) const;

  Uuid array_;
  Geometry geometry_;
  RegionSet dirty_;
  RegionSet durable_;  // set in the page image that every member has, and in none newer
  RegionSet image_;    // what the batch under way writes
  std::vector<Region> regions_;
  std::vector<uint64_t> generations_;
  std::vector<bool> wanted_;
  uint64_t wanted_count_ = 0;
  std::vector<uint32_t> batch_;
  bool in_batch_ = false;
  uint64_t epoch_ = 1;
  uint64_t flushed_ = 0;
};

}  // namespace bb::raid
