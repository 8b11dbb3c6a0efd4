// SPDX-License-Identifier: Apache-2.0
// pure: one command in flight on a target's queue
#pragma once

#include <array>
#include <vector>

#include "io/nvme/command.h"
#include "io/nvme/pdu.h"
#include "io/nvme/target_subsystem.h"

namespace bb::io::nvme {

enum class TargetOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

// What a queue asks its driver to do with the device.
struct TargetIo {
  TargetOp op = TargetOp::kRead;
  bool fua = false;
  bool may_discard = false;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::byte* data = nullptr;  // read, write: length_bytes
};

struct TargetSlot {
  enum class State : uint8_t {
    kFree,
    kReceiving,       // data from the host, in the capsule or behind an R2T
    kWaiting,         // for a data buffer
    kIo,              // with the device, or about to be
    kReserving,       // a reservation command that is being carried out
    kConnecting,      // a Connect that waits for the end of the association before
    kAuthenticating,  // a key exchange is computed
    kAnswering,       // the answer is queued or being sent
    kEvent,           // an asynchronous event request, kept
  };

  State state = State::kFree;
  bool in_capsule = false;
  bool to_host = false;
  bool r2t_sent = false;
  bool send_data = false;  // the answer has data
  bool aborted = false;    // by a preempt: what it has not done yet it does not do
  NvmeStatus status = NvmeStatus::kSuccess;
  uint8_t head_bytes = 0;  // C2HData header, or R2T
  uint8_t tail_bytes = 0;  // data digest and response
  uint16_t dsm_next = 0;
  uint16_t dsm_count = 0;
  uint32_t length_bytes = 0;  // of data either way
  uint32_t received_bytes = 0;
  uint32_t capacity_bytes = 0;  // of `data`
  std::byte* data = nullptr;
  std::byte* compare = nullptr;  // what the device has, of the same capacity
  uint64_t result = 0;
  NamespaceRef name_space;  // from its plan to its answer
  Sqe sqe;
  TargetIo io;
  std::array<std::byte, kAlignmentMaxBytes> head;
  std::array<std::byte, kDigestBytes + kCapsuleRespHeaderBytes + kDigestBytes> tail;
};

// A Flush of every namespace is one I/O for each.
inline bool flushes_all(const Sqe& sqe) {
  return sqe.nsid == kNsidAll && sqe.opcode == static_cast<uint8_t>(IoOpcode::kFlush);
}

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

 private:
  std::vector<uint16_t> slots_;
  size_t head_ = 0;
  size_t count_ = 0;
};

}  // namespace bb::io::nvme
