// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "io/device.h"
#include "io/task.h"
#include "raid/checksums.h"

namespace bb::raid {

// Whose devices a StripeStore works on, by slot, and who may be missing. Masks have a bit a slot.
class StripeMembers {
 public:
  virtual io::Device* device(uint32_t slot) = 0;  // of a writable slot
  virtual uint64_t writable_mask() const = 0;     // get all that is written
  virtual uint64_t readable_mask() const = 0;     // and have all that was
  // Of these, who is not to be read now if the others are enough.
  virtual uint64_t avoid_mask() { return 0; }
  // It did not do what it was told; it is neither writable nor readable from now on, or soon again.
  virtual void failed(uint32_t slot, const Status& why) = 0;
  // Returns once nobody counts on any of these slots as a member: not before that is durable. Else
  // why the write or flush, which they lack, cannot be acknowledged.
  virtual io::Task<Status> settle(uint64_t lacking_mask) = 0;

 protected:
  ~StripeMembers() = default;
};

// What is recorded of the blocks of those devices, of an array with integrity. Places count from
// the start of a member's data, in whole blocks; all but fetch() ask for pages that are here.
class StripeSums {
 public:
  // Their pages are here when it returns ok, until something else happens, or as long as `pinned`
  // has them (it may be null). CORRUPT: a page was damaged, and the stripes of its rows are in
  // doubt from now on: look again.
  virtual io::Task<Status> fetch(uint32_t slot, uint64_t place_bytes, uint64_t length_bytes,
                                 PinnedSums* pinned) = 0;
  virtual uint32_t recorded(uint32_t slot, uint64_t place_bytes) = 0;
  virtual void record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums) = 0;
  // So many blocks were not what is recorded, and so many were written anew.
  virtual void found_wrong(uint32_t slot, uint64_t blocks) = 0;
  virtual void repaired(uint32_t slot) = 0;

 protected:
  ~StripeSums() = default;
};

}  // namespace bb::raid
