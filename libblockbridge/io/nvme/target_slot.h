// SPDX-License-Identifier: Apache-2.0
// pure: one command in flight on a target's queue
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "io/io_stats.h"
#include "io/nvme/command.h"
#include "io/nvme/pdu.h"
#include "io/nvme/target_subsystem.h"
#include "io/range_lock.h"

namespace bb::io::nvme {

enum class TargetOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

// What a queue asks its driver to do with the device.
struct TargetIo {
  TargetOp op = TargetOp::kRead;
  bool fua = false;
  bool may_discard = false;
  bool may_lend = false;  // read: not into `data`, but shown by the device; see TargetQueue::lend
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::byte* data = nullptr;  // read, write: length_bytes
};

class TargetQueue;

// A write's hold on its range, or a Compare and Write's.
struct SlotLock : RangeTicket {
  TargetQueue* queue = nullptr;
  uint16_t slot = 0;
};

inline constexpr uint16_t kNoSlot = 0xffff;

inline uint32_t capacity_for(uint32_t length_bytes) {
  return std::max<uint32_t>(4096, std::bit_ceil(length_bytes));
}

struct TargetSlot {
  enum class State : uint8_t {
    kFree,
    kReceiving,       // data from the host, in the capsule or behind an R2T
    kWaiting,         // for memory
    kPaired,          // a half of a fused operation, whole, that waits for the other
    kLocked,          // for the range it writes
    kReady,           // to be given to the device
    kDevice,          // with the device
    kReserving,       // a reservation command that is being carried out
    kRunning,         // an admin command; an Abort cannot abort itself
    kConnecting,      // a Connect that waits for the end of the association before
    kAuthenticating,  // a key exchange is computed
    kAnswering,       // the answer is queued
    kLeaving,         // the answer is being sent
    kEvent,           // an asynchronous event request, kept
  };
  // What its I/O is: one, or several one after the other.
  enum class Work : uint8_t {
    kNone,
    kOne,  // request of the device, with the data of the command
    kCompare,
    kVerify,
    kDiscards,
    kFlushes,
    kCopy,
    kReserve,
  };
  enum class Half : uint8_t { kNone, kFirst, kSecond };  // of a fused operation

  State state = State::kFree;
  Work work = Work::kNone;
  Half half = Half::kNone;
  bool in_capsule = false;
  bool to_host = false;
  bool r2t_sent = false;
  bool send_data = false;  // the answer has data
  bool aborted = false;    // by a preempt: what it has not done yet it does not do
  bool id_noted = false;   // its identifier is in flight
  bool lent = false;       // `data` is the device's: nothing else uses that memory as ours
  NvmeStatus status = NvmeStatus::kSuccess;
  uint8_t head_bytes = 0;      // C2HData header, or R2T
  uint8_t tail_bytes = 0;      // data digest and response
  uint16_t partner = kNoSlot;  // the other half, from when both are there
  uint16_t range_next = 0;     // of Dataset Management and Copy
  uint16_t range_count = 0;
  uint32_t length_bytes = 0;  // of data either way
  uint32_t received_bytes = 0;
  uint32_t capacity_bytes = 0;  // of `data`
  uint32_t scratch_bytes = 0;   // of `scratch`, there or wanted
  uint32_t charged_bytes = 0;   // of the connection's memory
  std::byte* data = nullptr;
  std::byte* scratch = nullptr;  // what the device has: to be compared, verified, copied
  uint64_t result = 0;
  NamespaceRef name_space;  // from its plan to its answer
  CommandTimes times;
  Sqe sqe;
  TargetIo io;
  SlotLock lock;
  std::array<std::byte, kAlignmentMaxBytes> head;
  std::array<std::byte, kDigestBytes + kCapsuleRespHeaderBytes + kDigestBytes> tail;
};

// The slots of a queue. They grow once, at Connect, and never move: whoever only greets costs two.
class SlotTable {
 public:
  template <class Table, class Slot>
  struct Iterator {
    using iterator_category = std::forward_iterator_tag;
    using value_type = TargetSlot;
    using difference_type = ptrdiff_t;
    using pointer = Slot*;
    using reference = Slot&;

    Table* table = nullptr;
    size_t at = 0;

    Slot& operator*() const { return (*table)[at]; }
    Iterator& operator++() {
      ++at;
      return *this;
    }
    Iterator operator++(int) { return {table, at++}; }
    bool operator==(const Iterator&) const = default;
  };

  static constexpr size_t kFirst = 2;

  size_t size() const { return kFirst + rest_.size(); }
  TargetSlot& operator[](size_t i) { return i < kFirst ? first_[i] : rest_[i - kFirst]; }
  const TargetSlot& operator[](size_t i) const {
    return i < kFirst ? first_[i] : rest_[i - kFirst];
  }
  void grow(size_t count) {
    BB_CHECK(rest_.empty(), "slots grow from {} to {}", size(), count);
    rest_ = std::vector<TargetSlot>(count - kFirst);
  }
  auto begin() { return Iterator<SlotTable, TargetSlot>{this, 0}; }
  auto end() { return Iterator<SlotTable, TargetSlot>{this, size()}; }
  auto begin() const { return Iterator<const SlotTable, const TargetSlot>{this, 0}; }
  auto end() const { return Iterator<const SlotTable, const TargetSlot>{this, size()}; }

 private:
  std::array<TargetSlot, kFirst> first_;
  std::vector<TargetSlot> rest_;
};

// A fixed ring of slot numbers; each is in it at most once or twice.
class SlotRing {
 public:
  explicit SlotRing(size_t capacity) : slots_(capacity) {}
  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  void clear() { count_ = 0; }
  void push(uint16_t slot) {
    BB_CHECK(count_ < slots_.size(), "a ring of {} slots overflows", slots_.size());
    slots_[(head_ + count_++) % slots_.size()] = slot;
  }
  uint16_t front() const { return slots_[head_]; }
  uint16_t pop() {
    uint16_t slot = slots_[head_];
    head_ = (head_ + 1) % slots_.size();
    --count_;
    return slot;
  }
  // Takes one out of the middle, once; false: it is not there.
  bool remove(uint16_t slot) {
    for (size_t i = 0; i < count_; ++i) {
      if (at(i) != slot) continue;
      for (; i + 1 < count_; ++i) at(i) = at(i + 1);
      --count_;
      return true;
    }
    return false;
  }

 private:
  uint16_t& at(size_t i) { return slots_[(head_ + i) % slots_.size()]; }

  std::vector<uint16_t> slots_;
  size_t head_ = 0;
  size_t count_ = 0;
};

}  // namespace bb::io::nvme
