// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "raid/stripe_store.h"
#include "sim/disk_model.h"
#include "sim/run_result.h"
#include "sim/sim_drive.h"

namespace bb::sim {

// One run over levels with parity: the real store of stripes on drives with volatile caches, small
// enough that everything happens often. It crashes, loses members, recovers, crashes again.
//
// Seeds are read as 512 × workload + k: the workload crashes at its k-th request to a drive. So
// seeds in a row try every place where one workload can be cut off.
class StripeWorld {
 public:
  static constexpr uint64_t kCrashPoints = 512;

  explicit StripeWorld(const RunOptions& options);
  RunResult run();
  bool drained() const { return done_; }

 private:
  // A node with its connections, from assembly to crash.
  class Node final : public raid::StripeMembers {
   public:
    Node(StripeWorld& world, SimClock clock, Prng prng);
    io::Device* device(uint32_t slot) override { return cables[slot].get(); }
    uint64_t writable_mask() const override { return (members | joining) & ~suspects; }
    uint64_t readable_mask() const override { return members & ~suspects; }
    void failed(uint32_t slot, const Status& why) override;
    io::Task<Status> settle(uint64_t lacking_mask) override;

    StripeWorld& world;
    SimNode node;
    std::vector<std::unique_ptr<SimCable>> cables;
    std::unique_ptr<raid::StripeStore> store;
    uint64_t members;       // that count
    uint64_t suspects = 0;  // that failed, and are committed as lost when somebody must know
    uint64_t joining = 0;   // writable, and rebuilt
    bool dead = false;
  };

  io::Task<void> main();
  void choose();
  io::Task<Status> assemble(Node* node);
  io::Task<Status> write_life(Node* node, uint32_t slot);
  io::Task<void> work(Node* node, uint64_t ops);
  io::Task<void> worker(Node* node, Prng prng, uint64_t ops);
  io::Task<void> one_op(Node* node, Prng* prng);
  io::Task<void> verify(Node* node);
  io::Task<void> whole_life(uint64_t crash_at, uint64_t ops);
  io::Task<void> join(Node* node);
  void crash();
  void lose_members();
  void break_drive();
  void mend_drives();
  uint64_t requests() const;
  void fail(std::string violation);
  void note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    world_.trace().event(world_.now_ns(), what, a, b, c);
  }

  RunOptions options_;
  SimLoop world_;
  Prng prng_;        // of the workload
  Prng crash_prng_;  // of what a crash leaves
  raid::StripeLayout layout_;
  Uuid life_;  // of the journal
  uint64_t life_number_ = 0;
  bool small_ = false;  // writes of parts of stripes only: rings wrap often
  uint64_t hot_ = 0;    // a sector where most of them begin, so that some rings wrap more often
  std::vector<std::unique_ptr<SimDrive>> drives_;
  uint64_t committed_;   // members that are not lost
  uint64_t broken_ = 0;  // drives that answer with errors
  std::unique_ptr<DiskModel> model_;
  std::vector<std::unique_ptr<Node>> nodes_;  // the last one works
  Node* node_ = nullptr;
  uint64_t crash_at_ = 0;  // 0: no crash
  bool crashed_ = false;
  bool power_lost_ = false;  // with it
  uint64_t break_at_ = 0;    // 0: no drive breaks
  uint64_t mend_at_ = 0;     // 0: none works again before a crash
  uint32_t workers_ = 0;
  io::TaskGroup top_;
  bool done_ = false;
  std::string violation_;
  RunStats stats_;
};

}  // namespace bb::sim
