// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "sim/raw_queue.h"
#include "sim/register_model.h"
#include "sim/run_result.h"
#include "sim/sim_net.h"

namespace bb::sim {

// Blocks that several hosts write, and what is known of them. Every write is durable by itself, so
// that no loss of power takes it back.
struct SharedBlocks {
  static constexpr size_t kCount = 3;
  static constexpr size_t kBlockBytes = 512;
  using Value = RegisterModel::Value;

  uint64_t first_block = 0;
  std::array<RegisterModel, kCount> models;
  std::array<Value, kCount> latest{};  // as far as anybody has heard
  Value next_value = 1;

  static std::vector<std::byte> filled(Value value);
  static bool whole(ConstBytes block);  // and not of several writes
  std::string check() const;
};

// What a raw host has of its run.
struct RawHostOptions {
  SimNet* net = nullptr;
  SimLoop* world = nullptr;
  SharedBlocks* blocks = nullptr;
  RunStats* stats = nullptr;
  std::string name;
  std::string target;
  std::string nqn;
  bool digests = false;
  std::function<void(std::string)> fail;
};

// A host that speaks NVMe/TCP byte by byte: reads, writes, Compare and Write as one, halves of such
// pairs that lack the other, and Aborts of what is in flight, of what is not and of what never was.
// Each command is answered once, and what the answers say is what the blocks then hold.
class RawHost {
 public:
  RawHost(RawHostOptions options, Prng prng);
  io::Task<void> run();
  // The network is well from now on: it comes back once more and is answered everything.
  void calm();
  void crash() { options_.net->crash(options_.name, SimNet::Crash::kProcess); }

 private:
  static constexpr uint16_t kNone = 0xffff;
  enum class Kind : uint8_t { kRead, kWrite, kFlush, kFirst, kSecond };
  struct Command {
    Kind kind = Kind::kFlush;
    size_t block = 0;
    SharedBlocks::Value value = 0;  // to be written
    RegisterModel::OpId op = 0;
    uint16_t partner = kNone;                                      // the other half
    io::nvme::NvmeStatus wanted = io::nvme::NvmeStatus::kSuccess;  // what only a wrong half gets
    io::nvme::NvmeStatus status = io::nvme::NvmeStatus::kSuccess;
    bool answered = false;
    bool to_be_aborted = false;
    bool aborted = false;  // so an Abort was answered
    uint64_t sent_ns = 0;
  };
  struct Line {  // an I/O queue
    std::unique_ptr<RawQueue> queue;
    std::vector<Command> commands;  // by their identifiers
    size_t waiting = 0;
  };
  struct Abort {
    size_t line = kNone;  // kNone: of nothing
    uint16_t command = 0;
    bool answered = false;
  };

  io::Task<bool> attach();
  io::Task<bool> join_queue(RawQueue* queue, uint16_t queue_id, uint16_t controller);
  io::Task<void> detach(bool abort);
  io::Task<void> work(uint64_t steps);
  io::Task<void> settle();
  bool alive() const;
  bool impatient() const;
  size_t unanswered() const;

  void act();
  void read(Line& line);
  void write(Line& line);
  void pair(Line& line);
  void wrong_half(Line& line);
  void abort();
  uint16_t send(Line& line, io::nvme::IoOpcode opcode, Command command, ConstBytes data,
                uint8_t fuse = 0);

  void on_control(const RawQueue::Answer& answer);
  void on_aborted(Abort& abort, const RawQueue::Answer& answer);
  void on_answer(size_t line, const RawQueue::Answer& answer);
  void judge(const Command& command, const RawQueue::Answer& answer);
  void judge_pair(const Command& first, const Command& second);
  bool undone(const Command& command) const;
  void fail(const char* what, const Command& command);
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0);

  RawHostOptions options_;
  Prng prng_;
  SimNode node_;
  std::unique_ptr<io::Network> network_;
  std::unique_ptr<RawQueue> control_;
  std::vector<Line> lines_;
  std::vector<Abort> aborts_;  // by their identifiers, less one of the Connect and one of enabling
  size_t aborts_waiting_ = 0;
  uint64_t control_answers_ = 0;
  RawQueue::Answer last_control_;
  uint64_t actions_left_;
  io::Event calm_;
  bool failed_ = false;
};

}  // namespace bb::sim
