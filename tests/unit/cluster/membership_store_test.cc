// SPDX-License-Identifier: Apache-2.0
#include "cluster/membership_store.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cluster/model_store.h"
#include "io/sync.h"
#include "sim/sim_loop.h"
#include "sim/sim_net.h"

namespace bb::cluster {
namespace {

using Outcome = ModelCluster::Outcome;
using raid::MembershipRecord;
using raid::MemberState;

struct World {
  sim::SimLoop loop;
  sim::SimNet net;
  std::unique_ptr<io::Network> network;
  io::Context context;
  ModelCluster cluster;
  std::unique_ptr<Store> store_a;
  std::unique_ptr<Store> store_b;
  MembershipStore a;
  MembershipStore b;

  explicit World(uint64_t seed = 1)
      : loop(seed),
        net(loop, {}, loop.prng().fork()),
        network(net.attach("node-a", loop)),
        context{loop, *network},
        cluster(loop, loop.prng().fork()),
        store_a(cluster.connect(context, "node-a")),
        store_b(cluster.connect(context, "node-b")),
        a(loop, *store_a),
        b(loop, *store_b) {}
  ~World() {
    loop.block_on(store_a->close());
    loop.block_on(store_b->close());
    loop.block_on(cluster.close());
  }
  template <typename T>
  T run(io::Task<T> task) {
    return loop.block_on(std::move(task));
  }
  MembershipRecord make(std::string name) {
    MembershipRecord record;
    record.array = Uuid::random(loop.prng());
    record.name = std::move(name);
    record.slots = record.copies = 3;
    record.size_bytes = record.member_bytes = 1 * GiB;
    record.data_offset_bytes = 1 * MiB;
    record.region_size_bytes = 1 * MiB;
    record.reason = "created";
    for (uint32_t slot = 0; slot < 3; ++slot) {
      record.members.push_back({.uuid = Uuid::random(loop.prng()),
                                .slot = slot,
                                .label = fmt::format("node-{}/0", slot)});
    }
    return record;
  }
};

MembershipRecord with_failed(MembershipRecord record, size_t member) {
  ++record.version;
  raid::set_member_state(record, record.members[member].uuid, MemberState::kFailed);
  record.reason = fmt::format("member {} failed", member);
  return record;
}

// Every commit is lawful: member 0 stays in-sync, member 1 fails and recovers in turn.
MembershipRecord next_of(MembershipRecord record, const std::string& reason) {
  ++record.version;
  MemberState now = record.members[1].state;
  MemberState then = now == MemberState::kInSync   ? MemberState::kFailed
                     : now == MemberState::kFailed ? MemberState::kRecovering
                                                   : MemberState::kInSync;
  raid::set_member_state(record, record.members[1].uuid, then);
  record.reason = reason;
  return record;
}

TEST(MembershipStore, LifeOfAnArray) {
  World world;
  MembershipRecord first = world.make("db");
  EXPECT_EQ(world.run(world.a.load(first.array)).code(), Code::k_not_found);
  ASSERT_TRUE(world.run(world.a.create(first)).ok());
  EXPECT_EQ(*world.run(world.b.load(first.array)), first);
  EXPECT_EQ(*world.run(world.b.load_by_name("db")), first);
  EXPECT_EQ(world.run(world.b.load_by_name("dc")).code(), Code::k_not_found);

  MembershipRecord second = with_failed(first, 1);
  Status committed = world.run(world.a.commit(second, 1));
  ASSERT_TRUE(committed.ok()) << committed.to_string();
  EXPECT_EQ(*world.run(world.b.load(first.array)), second);
  EXPECT_TRUE(world.run(world.a.commit(second, 1)).ok());  // already so

  ASSERT_TRUE(world.run(world.a.create(world.make("archive"))).ok());
  auto listed = world.run(world.a.list());
  ASSERT_EQ(listed->size(), 2u);
  EXPECT_EQ((*listed)[0].name, "archive");
  EXPECT_EQ((*listed)[1], second);

  auto history = world.run(world.b.history(first.array));
  ASSERT_EQ(history->size(), 2u);
  EXPECT_EQ((*history)[0].record, first);
  EXPECT_EQ((*history)[1].record.reason, "member 1 failed");
  EXPECT_GT((*history)[1].wall_ns, sim::SimLoop::kWallStartNs);

  EXPECT_EQ(world.run(world.a.remove(first.array, 1)).code(), Code::k_bad_state);
  EXPECT_TRUE(world.run(world.a.remove(first.array, 2)).ok());
  EXPECT_EQ(world.run(world.a.remove(first.array, 2)).code(), Code::k_not_found);
  EXPECT_EQ(world.run(world.a.history(first.array)).code(), Code::k_not_found);
  EXPECT_TRUE(world.run(world.a.create(world.make("db"))).ok());  // the name is free again
}

TEST(MembershipStore, RefusesAndChangesNothing) {
  World world;
  MembershipRecord first = world.make("db");
  first.epoch = 5;
  ASSERT_TRUE(world.run(world.a.create(first)).ok());
  EXPECT_EQ(world.run(world.a.create(first)).code(), Code::k_already_exists);
  Status taken = world.run(world.a.create(world.make("db")));
  EXPECT_EQ(taken.code(), Code::k_already_exists);
  EXPECT_NE(taken.text().find(first.array.to_string()), std::string::npos) << taken.text();

  struct Case {
    const char* what;
    void (*spoil)(MembershipRecord&);
    uint64_t expected;
    Code code;
  };
  const Case cases[] = {
      {"old epoch", [](MembershipRecord& r) { r.epoch = 4; }, 1, Code::k_fenced},
      {"other version", [](MembershipRecord&) {}, 2, Code::k_bad_state},
      {"skipped version", [](MembershipRecord& r) { r.version = 3; }, 1, Code::k_invalid_argument},
      {"renamed", [](MembershipRecord& r) { r.name = "dc"; }, 1, Code::k_invalid_argument},
      {"nobody left",
       [](MembershipRecord& r) {
         for (auto& member : r.members) {
           member.state = MemberState::kFailed;
           member.generation = 2;
         }
       },
       1, Code::k_invalid_argument},
      {"unknown array", [](MembershipRecord& r) { r.array.bytes[0] ^= std::byte{1}; }, 1,
       Code::k_not_found},
  };
  for (const Case& c : cases) {
    MembershipRecord record = with_failed(first, 2);
    c.spoil(record);
    Status status = world.run(world.a.commit(record, c.expected));
    EXPECT_EQ(status.code(), c.code) << c.what << ": " << status.to_string();
    EXPECT_EQ(*world.run(world.a.load(first.array)), first) << c.what;
  }
  EXPECT_EQ(world.run(world.a.history(first.array))->size(), 1u);
}

TEST(MembershipStore, ALostAnswerIsSettledByReading) {
  for (Outcome outcome : {Outcome::kHappened, Outcome::kHappensLater, Outcome::kNever}) {
    World world;
    MembershipRecord first = world.make("db");
    world.cluster.force_next_outcome(outcome);
    EXPECT_TRUE(world.run(world.a.create(first)).ok());
    MembershipRecord second = with_failed(first, 1);
    world.cluster.force_next_outcome(outcome);
    EXPECT_TRUE(world.run(world.a.commit(second, 1)).ok());
    EXPECT_EQ(*world.run(world.a.load(first.array)), second);
    MembershipRecord third = next_of(second, "back");
    EXPECT_TRUE(world.run(world.b.commit(third, 2)).ok());
    world.loop.run_for(10 * kNsPerSecond);  // what was late has arrived, and changed nothing
    EXPECT_EQ(*world.run(world.a.load(first.array)), third);
    EXPECT_EQ(world.run(world.a.history(first.array))->size(), 3u);
    world.cluster.force_next_outcome(outcome);
    EXPECT_TRUE(world.run(world.a.remove(first.array, 3)).ok());
    EXPECT_EQ(world.run(world.a.load(first.array)).code(), Code::k_not_found);
  }
}

TEST(MembershipStore, CutOffItDecidesNothing) {
  World world;
  MembershipRecord first = world.make("db");
  ASSERT_TRUE(world.run(world.a.create(first)).ok());
  world.cluster.set_partitioned("node-a", true);
  MembershipRecord mine = with_failed(first, 1);
  Status status = world.run(world.a.commit(mine, 1));
  EXPECT_EQ(status.code(), Code::k_timed_out) << status.to_string();
  EXPECT_EQ(world.run(world.a.load(first.array)).code(), Code::k_timed_out);
  EXPECT_EQ(*world.run(world.b.load(first.array)), first);

  MembershipRecord theirs = with_failed(first, 2);
  theirs.epoch = 2;
  EXPECT_TRUE(world.run(world.b.commit(theirs, 1)).ok());
  world.cluster.set_partitioned("node-a", false);
  EXPECT_EQ(world.run(world.a.commit(mine, 1)).code(), Code::k_fenced);
  EXPECT_EQ(*world.run(world.a.load(first.array)), theirs);
}

TEST(MembershipStore, HistoryIsBounded) {
  World world;
  MembershipRecord record = world.make("db");
  ASSERT_TRUE(world.run(world.a.create(record)).ok());
  for (uint64_t version = 2; version <= 50; ++version) {
    record = next_of(record, fmt::format("change {}", version));
    ASSERT_TRUE(world.run(world.a.commit(record, version - 1)).ok());
  }
  auto history = world.run(world.a.history(record.array));
  ASSERT_EQ(history->size(), 32u);
  EXPECT_EQ(history->front().record.version, 19u);
  EXPECT_EQ(history->back().record, record);
  EXPECT_TRUE(world.run(world.a.remove(record.array, 50)).ok());
  EXPECT_EQ(world.cluster.core().list("", 10)->entries.size(), 0u);
}

// Two owners commit against each other while answers are lost and changes arrive late. Whoever was
// told ok must find its record in the history, at its version, and nobody else's.
io::Task<void> compete(io::Loop* loop, MembershipStore* store, Uuid array, std::string who,
                       std::map<uint64_t, std::string>* acknowledged) {
  for (int i = 0; i < 6; ++i) {
    auto now = co_await store->load(array);
    if (now.ok()) {
      std::string reason = fmt::format("{} {}", who, i);
      MembershipRecord record = next_of(*now, reason);
      Status status = co_await store->commit(record, now->version);
      if (status.ok()) {
        EXPECT_TRUE(acknowledged->emplace(record.version, reason).second)
            << "version " << record.version << " was acknowledged to two";
      }
    }
    co_await loop->sleep_for(loop->prng().below(2 * kNsPerSecond));
  }
}

io::Task<void> compete_both(World* world, Uuid array, std::map<uint64_t, std::string>* acks) {
  io::TaskGroup group(world->loop);
  group.spawn(compete(&world->loop, &world->a, array, "a", acks));
  group.spawn(compete(&world->loop, &world->b, array, "b", acks));
  co_await group.join();
}

TEST(MembershipStore, OwnersInConflictWithLostAnswers) {
  size_t acknowledged_in_all = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    MembershipRecord first = world.make("db");
    ASSERT_TRUE(world.run(world.a.create(first)).ok());
    world.cluster.faults().latency_max_ns = 10 * kNsPerMs;
    world.cluster.faults().unknown_one_in = 3;
    world.cluster.faults().unavailable_one_in = 10;
    std::map<uint64_t, std::string> acks;
    world.run(compete_both(&world, first.array, &acks));
    world.cluster.faults() = {};
    world.loop.run_for(10 * kNsPerSecond);
    auto history = world.run(world.a.history(first.array));
    ASSERT_TRUE(history.ok());
    std::map<uint64_t, std::string> reasons;
    for (const MembershipChange& change : *history) {
      reasons[change.record.version] = change.record.reason;
    }
    EXPECT_EQ(reasons.size(), history->back().record.version);
    for (const auto& [version, reason] : acks) EXPECT_EQ(reasons[version], reason);
    acknowledged_in_all += acks.size();
  }
  EXPECT_GT(acknowledged_in_all, 1000u);
}

TEST(MembershipCodec, RefusesWhatIsNoRecord) {
  World world;
  MembershipRecord record = world.make("db");
  std::string good = encode_membership(record, 7);
  ASSERT_TRUE(decode_membership(good).ok());
  EXPECT_EQ(decode_membership(good)->record, record);
  EXPECT_EQ(decode_membership(good)->wall_ns, 7u);
  Json value = *parse_json(good);
  for (auto field = value.begin(); field != value.end(); ++field) {
    if (field.key() == "wall_ns") continue;
    for (const Json& wrong : {Json(), Json("x\ny"), Json(-1), Json::array({1}), Json::object()}) {
      if (wrong.is_string() && (field.key() == "reason" || field.key() == "name")) continue;
      Json bad = value;
      bad[field.key()] = wrong;
      EXPECT_EQ(decode_membership(dump_json(bad)).code(), Code::k_corrupt)
          << field.key() << " = " << wrong;
    }
  }
  Json bad = value;
  bad["more"] = 1;
  EXPECT_EQ(decode_membership(dump_json(bad)).code(), Code::k_corrupt);
  bad = value;
  bad["members"][1] = bad["members"][0];
  EXPECT_EQ(decode_membership(dump_json(bad)).code(), Code::k_corrupt);
  EXPECT_EQ(decode_membership(std::string(kMembershipBytesMax + 1, ' ')).code(), Code::k_corrupt);
  // Cut or changed anywhere: an error or a valid record, never anything else.
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(decode_membership(good.substr(0, i)).ok());
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    auto decoded = decode_membership(changed);
    if (decoded.ok()) EXPECT_TRUE(raid::validate_record(decoded->record).ok());
  }
}

}  // namespace
}  // namespace bb::cluster
