// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "io/range_lock.h"
#include "raid/stripe_store.h"

namespace bb::raid {

class ArrayCore;
struct Member;

// The stripes of an array with parity: its StripeStore, opened, and opened again when a write could
// be neither done nor undone; the array's members as the store sees them.
class StripePath final : public StripeMembers, public StripeSums {
 public:
  explicit StripePath(ArrayCore& core);
  ~StripePath();

  // --- opening. `found`: the newest life that a member's superblock names; nil: a new array.
  io::Task<Status> open(Uuid found, uint64_t number);
  io::Task<void> close();
  // Opens it again after a write got stuck, as soon as enough members are there.
  io::Task<void> reopen_loop();
  void wake() { work_.set(); }
  bool serves() const { return store_ != nullptr && store_->stuck().ok(); }
  Status stuck() const { return store_ == nullptr ? Status() : store_->stuck(); }
  const Uuid& life() const { return life_; }
  uint64_t number() const { return number_; }

  // --- for the host
  io::Task<Status> read(io::IoRequest* request);
  io::Task<Status> write(const io::IoRequest* request);  // its bits are durable
  io::Task<Status> flush();

  // --- members that come in: superblock, then this, then each stripe, then a flush
  io::Task<Status> admit(uint32_t slot, std::function<void()> activate);
  io::Task<Status> rebuild(uint64_t stripe, uint64_t slice_bytes);

  // --- integrity: stripe_path_sums.cc
  io::Task<Status> prove(uint64_t stripe);
  io::Task<Status> scrub(uint64_t stripe, std::vector<StripeFinding>* findings);
  // Of the stripes that lie in these rows; all there are while the store is closed.
  std::vector<uint64_t> regions_of_rows(uint64_t first, uint64_t count) const;
  // What is recorded of these rows was damaged.
  void doubt_rows(uint64_t first, uint64_t count);

  // --- StripeMembers
  io::Device* device(uint32_t slot) override;
  uint64_t writable_mask() const override;
  uint64_t readable_mask() const override;
  uint64_t avoid_mask() override;
  void failed(uint32_t slot, const Status& why) override;
  io::Task<Status> settle(uint64_t lacking_mask) override;

  // --- StripeSums
  io::Task<Status> fetch(uint32_t slot, uint64_t place_bytes, uint64_t length_bytes,
                         PinnedSums* pinned) override;
  uint32_t recorded(uint32_t slot, uint64_t place_bytes) override;
  void record(uint32_t slot, uint64_t place_bytes, std::span<const uint32_t> sums) override;
  void found_wrong(uint32_t slot, uint64_t blocks) override;
  void repaired(uint32_t slot) override;

 private:
  class Gate;
  using Operation = std::function<io::Task<Status>(StripeStore*)>;
  io::Task<Status> serve(Operation operation);
  io::Task<Status> open_held(Uuid found, uint64_t number);
  io::Task<Status> write_lives();
  io::Task<Status> doubt_dirty();
  Member* holder(uint32_t slot) const;
  uint64_t region_of(uint64_t stripe) const;

  ArrayCore& core_;
  StripeLayout layout_;
  std::unique_ptr<StripeStore> store_;
  Uuid life_;
  uint64_t number_ = 0;
  io::RangeLock gate_;  // shared by operations; whoever changes what they work on is alone
  io::Event work_;
};

}  // namespace bb::raid
