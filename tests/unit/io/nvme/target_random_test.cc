// SPDX-License-Identifier: Apache-2.0
// Several controllers at random: plain writes, Compare and Write as a counter, aborts, Copy,
// Verify, namespaces and ports that change. Every command is answered exactly once, and the counter
// is what the pairs that succeeded have made of it.
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kCounterBlocks = 2;  // blocks 0 and 1 count
constexpr uint16_t kQueues = 3;

class RandomWorld {
 public:
  explicit RandomWorld(uint64_t seed) : prng(seed), memory(pattern(64 * 512, seed)) {
    std::fill(memory.begin(), memory.begin() + kCounterBlocks * 512, std::byte{0});
    EXPECT_TRUE(core.add_subsystem(test::fake_subsystem(memory.size())).ok());
    for (Side& side : sides) {
      side.admin = connect(0, 0xffff);
      side.admin->ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable));
      side.queue = connect(1, side.admin->target.queue.controller()->id());
      side.queue->target.held = true;
      side.queue->seen.responses.clear();
    }
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    while (!flying.empty()) {
      land(flying.size() - 1);
      look();
    }
    look();
    check();
  }

 private:
  struct Side {
    std::unique_ptr<Link> admin, queue;
    uint16_t next_id = 0;
    std::map<uint16_t, int> answers;  // of every command that was sent
    std::map<uint16_t, NvmeStatus> status;
  };
  struct Pair {
    size_t side;
    uint16_t first, second;
    uint64_t block;
  };
  struct Flight {
    size_t side;
    uint16_t slot;
  };

  std::unique_ptr<Link> connect(uint16_t queue_id, uint16_t controller) {
    auto link = std::make_unique<Link>(core, memory);
    link->target.queue.set_port(1);
    link->init();
    link->send(link->wire.connect(queue_id, 31, controller));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    return link;
  }

  void step() {
    size_t which = prng.below(kQueues);
    Side& side = sides[which];
    uint64_t kind = prng.below(20);
    bool room = side.answers.size() - side.status.size() < 20;
    if (kind < 5 && room) {
      count_up(which);
    } else if (kind < 8 && room) {
      uint32_t blocks = static_cast<uint32_t>(prng.between(1, 4));
      Sqe write = HostWire::io(IoOpcode::kWrite, prng.between(kCounterBlocks, 58), blocks, 0);
      send(which, write, pattern(blocks * 512, prng.next()));
    } else if (kind == 8 && room) {
      send(which, HostWire::io(IoOpcode::kVerify, 0, 8, 0), {});
    } else if (kind == 9 && room) {
      Buffer range(kCopyRangeBytes);
      store_le<uint64_t>(range.data() + 8, 20);
      send(which, HostWire::io(IoOpcode::kCopy, 22, 1, 0), range);
    } else if (kind == 10 && side.next_id > 0) {
      auto id = static_cast<uint32_t>(prng.below(side.next_id));
      side.admin->ask(HostWire::admin(AdminOpcode::kAbort, 1u | (id << 16), 0));
    } else if (kind == 11 && prng.chance(8)) {
      AnaState state = prng.chance(2) ? AnaState::kOptimized : AnaState::kInaccessible;
      EXPECT_TRUE(core.set_ana_state(1, 1, state).ok());
    } else if (!flying.empty()) {
      land(prng.below(flying.size()));
    }
    look();
  }

  // Compare and Write: the counter in a block goes from what it is (or, now and then, was) to that
  // and one.
  void count_up(size_t which) {
    Side& side = sides[which];
    Pair pair{which, side.next_id, static_cast<uint16_t>(side.next_id + 1),
              prng.below(kCounterBlocks)};
    Buffer have(memory.begin() + static_cast<ptrdiff_t>(pair.block * 512),
                memory.begin() + static_cast<ptrdiff_t>(pair.block * 512 + 512));
    Buffer next = have;
    store_le<uint64_t>(next.data(), load_le<uint64_t>(have.data()) + 1);
    Sqe compare = HostWire::io(IoOpcode::kCompare, pair.block, 1, 0);
    compare.flags |= kFlagFuseFirst;
    Sqe write = HostWire::io(IoOpcode::kWrite, pair.block, 1, 0);
    write.flags |= kFlagFuseSecond;
    send(which, compare, have);
    send(which, write, next);
    pairs.push_back(pair);
  }

  void send(size_t which, Sqe sqe, ConstBytes data) {
    Side& side = sides[which];
    sqe.command_id = side.next_id++;
    side.answers[sqe.command_id] = 0;
    side.queue->send(side.queue->wire.capsule(sqe, data));
  }

  // What queues want of the device, and what they have sent.
  void look() {
    for (bool any = true; any;) {
      any = false;
      int wakes = woken();
      for (size_t i = 0; i < kQueues; ++i) {
        while (auto slot = sides[i].queue->target.queue.next_io()) {
          flying.push_back({i, *slot});
          any = true;
        }
        sides[i].queue->send({});
        for (const Cqe& one : sides[i].queue->seen.responses) {
          ++sides[i].answers[one.command_id];
          sides[i].status[one.command_id] = one.status;
        }
        sides[i].queue->seen.responses.clear();
      }
      any = any || woken() != wakes;
    }
  }
  int woken() const {
    int all = 0;
    for (const Side& side : sides) all += side.queue->target.wakes;
    return all;
  }

  void land(size_t at) {
    Flight flight = flying[at];
    flying[at] = flying.back();
    flying.pop_back();
    TargetQueue& queue = sides[flight.side].queue->target.queue;
    const TargetIo& io = queue.io(flight.slot);
    std::byte* place = memory.data() + io.offset_bytes;
    bool fails = prng.chance(30);
    if (!fails && io.op == TargetOp::kRead) std::memcpy(io.data, place, io.length_bytes);
    if (!fails && io.op == TargetOp::kWrite) std::memcpy(place, io.data, io.length_bytes);
    queue.on_io_done(flight.slot, fails ? Code::k_io_error : Code::k_ok);
  }

  void check() {
    for (Side& side : sides) {
      for (auto [id, count] : side.answers) EXPECT_EQ(count, 1) << id;
      EXPECT_EQ(side.queue->target.buffers, 0);
      EXPECT_FALSE(side.queue->target.queue.closing());
    }
    uint64_t wanted[kCounterBlocks] = {};
    for (const Pair& pair : pairs) {
      const auto& status = sides[pair.side].status;
      if (status.at(pair.second) != NvmeStatus::kSuccess) continue;
      EXPECT_EQ(status.at(pair.first), NvmeStatus::kSuccess);
      ++wanted[pair.block];
    }
    for (uint64_t block = 0; block < kCounterBlocks; ++block) {
      EXPECT_EQ(load_le<uint64_t>(memory.data() + block * 512), wanted[block]);
    }
    EXPECT_TRUE(core.subsystems().at(test::kNqn)->find(1)->writes.idle());
    counted += wanted[0] + wanted[1];
  }

 public:
  static inline uint64_t counted = 0;

 private:
  Prng prng;
  Buffer memory;
  TargetCore core{{}};
  Side sides[kQueues];
  std::vector<Pair> pairs;
  std::vector<Flight> flying;
};

TEST(TargetRandom, EveryCommandIsAnsweredOnceAndPairsAreAtomic) {
  RandomWorld::counted = 0;
  for (uint64_t seed = 1; seed <= 200 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RandomWorld(seed).run(400);
  }
  EXPECT_GT(RandomWorld::counted, 1000u);  // or nothing was shown
}

}  // namespace
}  // namespace bb::io::nvme
