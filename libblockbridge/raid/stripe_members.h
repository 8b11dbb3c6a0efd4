// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/device.h"
#include "io/task.h"

namespace bb::raid {

// Whose devices a StripeStore works on, by slot, and who may be missing. Masks have a bit a slot.
class StripeMembers {
 public:
  virtual io::Device* device(uint32_t slot) = 0;  // of a writable slot
  virtual uint64_t writable_mask() const = 0;     // get all that is written
  virtual uint64_t readable_mask() const = 0;     // and have all that was
  // It did not do what it was told; it is neither writable nor readable from now on, or soon again.
  virtual void failed(uint32_t slot, const Status& why) = 0;
  // Returns once nobody counts on any of these slots as a member: not before that is durable. Else
  // why the write or flush, which they lack, cannot be acknowledged.
  virtual io::Task<Status> settle(uint64_t lacking_mask) = 0;

 protected:
  ~StripeMembers() = default;
};

}  // namespace bb::raid
