// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/nvme/command.h"
#include "io/nvme/pdu_reader.h"
#include "io/stream.h"
#include "io/sync.h"

namespace bb::sim {

// One connection to a target, of a host that is nothing but bytes: it sends any command at any time
// and tells of each answer.
class RawQueue {
 public:
  struct Answer {
    uint16_t command_id = 0;
    io::nvme::NvmeStatus status = io::nvme::NvmeStatus::kSuccess;
    uint64_t result = 0;
    std::vector<std::byte> data;
  };
  using OnAnswer = std::function<void(const Answer&)>;

  RawQueue(io::Loop& loop, io::nvme::Digests digests, OnAnswer on_answer);
  RawQueue(const RawQueue&) = delete;

  io::Task<bool> open(io::Network* network, std::string address, uint64_t deadline_ns);
  // Data go in the capsule, or when they are asked for.
  void send(io::nvme::Sqe sqe, ConstBytes data, bool in_capsule);
  bool alive() const { return alive_; }
  // Ends it, also towards the peer unless that cannot hear it; then close() once.
  void end(bool abort);
  io::Task<void> close();

 private:
  io::Task<void> send_all();
  io::Task<void> receive_all();
  void read(ConstBytes bytes);
  void on_header(ConstBytes header);
  void on_data_end();
  void put(ConstBytes header, ConstBytes data);

  io::nvme::PduFormat format_;
  OnAnswer on_answer_;
  io::nvme::PduReader reader_{io::nvme::Role::kHost, {}};
  std::unique_ptr<io::Stream> stream_;
  io::TaskGroup tasks_;
  io::Event wake_;  // something is to be sent, or it is over
  std::vector<std::byte> out_;
  std::map<uint16_t, std::vector<std::byte>> promised_;  // data that will be asked for
  std::map<uint16_t, std::vector<std::byte>> got_;       // data of reads
  io::nvme::DataHeader data_header_;                     // of what comes now
  bool alive_ = false;
};

}  // namespace bb::sim
