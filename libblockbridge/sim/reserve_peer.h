// SPDX-License-Identifier: Apache-2.0
// pure: one connection to a target's state machine, both ends of it, without sockets
#pragma once

#include <vector>

#include "io/nvme/pdu_reader.h"
#include "io/nvme/target_queue.h"

namespace bb::sim {

// The target's queue, the host that speaks to it byte by byte, and the I/Os of the queue that the
// device has and has not answered.
class ReservePeer final : public io::nvme::QueueHost {
 public:
  struct Answer {
    uint16_t command_id = 0;
    io::nvme::NvmeStatus status = io::nvme::NvmeStatus::kSuccess;
  };

  explicit ReservePeer(io::nvme::TargetCore& core);
  ~ReservePeer();

  // Initialises the connection and connects it: an admin queue (0) enables its controller, too.
  bool connect(uint16_t queue_id, uint16_t controller, const Uuid& host);
  void send(io::nvme::Sqe sqe, ConstBytes data);  // in the capsule
  // What was answered since the last look.
  std::vector<Answer> answers();
  io::nvme::TargetQueue& queue() { return queue_; }

  std::byte* take_buffer(uint32_t capacity_bytes) override;
  void give_buffer(std::byte* buffer, uint32_t capacity_bytes) override;
  void wake() override {}
  void compute(io::DhExchange&) override;

 private:
  void read(ConstBytes bytes);

  io::nvme::PduReader reader_;
  std::vector<Answer> answers_;
  io::nvme::TargetQueue queue_;
};

inline constexpr const char* kReserveNqn = "nqn.2026-11.io.blockbridge:drive:sim";

}  // namespace bb::sim
