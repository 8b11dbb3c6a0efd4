// SPDX-License-Identifier: Apache-2.0
// The seven scenarios of membership: what becomes of an array whose drives and nodes come and go,
// with each store that can hold its record, and levels of each kind.
#include <gtest/gtest.h>
#include <unistd.h>

#include "cluster/membership_store.h"
#include "cluster/store.h"
#include "io/offload.h"
#include "unit/raid/array_world.h"

namespace bb::raid {
namespace {

constexpr uint64_t kChunk = 16 * KiB;

// The way to the store, which can be cut.
class Link final : public MembershipAuthority {
 public:
  explicit Link(MembershipAuthority* far) : far_(far) {}
  Task<Result<MembershipRecord>> load(Uuid array) override {
    if (cut) co_return gone();
    co_return co_await far_->load(array);
  }
  Task<Status> create(MembershipRecord record) override {
    if (cut) co_return gone();
    co_return co_await far_->create(std::move(record));
  }
  Task<Status> commit(MembershipRecord record, uint64_t expected_version) override {
    if (cut) co_return gone();
    co_return co_await far_->commit(std::move(record), expected_version);
  }
  bool cut = false;

 private:
  static Status gone() { return error(Code::k_unavailable, "no majority can be reached"); }
  MembershipAuthority* far_;
};

struct Case {
  const char* store;
  const char* raid;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.store << " " << c.raid; }

struct Cluster : World {
  io::Offload offload;
  std::string path = fmt::format("{}bb-scenarios-{}.db", testing::TempDir(), ::getpid());
  std::unique_ptr<cluster::Store> store;
  std::unique_ptr<cluster::MembershipStore> membership;
  std::unique_ptr<Link> link;

  explicit Cluster(const Case& c) : World(c.raid, std::string(c.raid) == "1.2" ? 0 : kChunk) {
    integrity.reset();  // what the level has by itself
    remove_files();
    context.offload = &offload;
    std::string uri = std::string(c.store) == "file" ? "file:" + path : "model:";
    auto opened = reactor->block_on(cluster::open_store(context, uri, {}));
    BB_CHECK(opened.ok(), "{}", opened.status().to_string());
    store = std::move(opened).value();
    membership = std::make_unique<cluster::MembershipStore>(*reactor, *store);
    link = std::make_unique<Link>(membership.get());
    decides = link.get();
  }
  ~Cluster() {
    (void)stop();
    reactor->block_on(store->close());
    remove_files();
  }
  void remove_files() {
    for (const char* end : {"", "-wal", "-shm"}) ::unlink((path + end).c_str());
  }
  std::vector<size_t> all_but(std::vector<size_t> missing) const {
    std::vector<size_t> which;
    for (size_t i = 0; i < drives.size(); ++i) {
      if (std::ranges::find(missing, i) == missing.end()) which.push_back(i);
    }
    return which;
  }
  void power_off() {
    link->cut = true;
    crash(true);
    link->cut = false;
    for (auto& drive : drives) drive->reopen();
  }
  // Another node takes it over.
  Status take_over(std::vector<size_t> which) {
    ++options.epoch;
    return assemble(std::move(which));
  }
  MembershipRecord committed() { return *run(membership->load_by_name("db")); }
  bool left_out(const std::string& text) {
    return std::ranges::any_of(array->describe().left_out, [&](const std::string& why) {
      return why.find(text) != std::string::npos;
    });
  }
};

class Scenario : public testing::TestWithParam<Case> {
 protected:
  Cluster world{GetParam()};

  void SetUp() override {
    ASSERT_OK(world.create());
    ASSERT_OK(world.write(0, 256 * KiB, 1));
    ASSERT_OK(world.flush());
  }
  // A is member 0, B the one that holds what it held.
  void lose_a_and_go_on() {
    world.drives[0]->lose_connection();
    ASSERT_OK(world.write(0, 256 * KiB, 2, true));
    EXPECT_EQ(world.committed().members[0].state, MemberState::kFailed);
  }
};

TEST_P(Scenario, OneAnOutdatedMemberAloneIsNotStarted) {
  lose_a_and_go_on();
  world.power_off();
  Status status = world.assemble(world.all_but({1}));
  EXPECT_EQ(status.code(), Code::k_unavailable);
  EXPECT_NE(status.text().find("recover: "), std::string::npos) << status.text();
}

TEST_P(Scenario, TwoItStartsOnTheOtherAndTheOutdatedOneIsResynchronised) {
  lose_a_and_go_on();
  world.power_off();
  ASSERT_OK(world.assemble(world.all_but({})));
  EXPECT_EQ(world.read(0, 256 * KiB), 2);
  EXPECT_EQ(world.state(0), MemberState::kFailed);
  EXPECT_TRUE(world.left_out("stale: failed since version"));
  ASSERT_OK(world.run(world.array->readmit_member(world.member(0))));
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.run(world.array->fail_member(world.member(1), "test")));
  EXPECT_EQ(world.read(0, 256 * KiB), 2);
}

TEST_P(Scenario, ThreeWhatASpareReplacedIsRejectedWhenItReturns) {
  lose_a_and_go_on();
  Uuid old = world.member(0);
  size_t spare = world.drives.size();
  FakeDrive& fresh = world.add_drive();
  ASSERT_OK(world.run(world.array->replace_member(old, MemberDevice::borrow(fresh))));
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.write(0, 256 * KiB, 3, true));
  world.drives[0]->resume();
  EXPECT_FALSE(world.run(world.array->readmit_member(old)).ok());
  ASSERT_OK(world.stop());
  for (auto& drive : world.drives) drive->reopen();
  ASSERT_OK(world.assemble(world.all_but({})));
  EXPECT_TRUE(world.left_out("rejected: removed in version"));
  EXPECT_EQ(world.read(0, 256 * KiB), 3);
  ASSERT_OK(world.stop());
  for (auto& drive : world.drives) drive->reopen();
  ASSERT_OK(world.assemble(world.all_but({1})));  // the spare counts, without B too
  EXPECT_EQ(world.read(0, 256 * KiB), 3);
  EXPECT_EQ(world.drives.size(), spare + 1);
}

TEST_P(Scenario, FourAnotherNodeHasTheCommittedMembersAndGuessesNothing) {
  lose_a_and_go_on();
  MembershipRecord before = world.committed();
  world.drives[0]->resume();  // it is there again, and still no member
  std::unique_ptr<Array> old = std::move(world.array);
  ASSERT_OK(world.take_over(world.all_but({})));
  MembershipRecord after = world.committed();
  ASSERT_EQ(after.members.size(), before.members.size());
  for (size_t i = 0; i < after.members.size(); ++i) {
    EXPECT_EQ(after.members[i].uuid, before.members[i].uuid);
    EXPECT_EQ(after.members[i].state, before.members[i].state);
  }
  EXPECT_EQ(world.read(0, 256 * KiB), 2);
  // The node before decides nothing any more.
  Status status = world.run(old->readmit_member(before.members[0].uuid));
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(old->describe().state, "fenced");
  (void)world.run(old->close());
  for (auto& drive : world.drives) drive->reopen();
}

TEST_P(Scenario, FiveWithoutAMajorityALossIsNotWrittenWithout) {
  world.link->cut = true;
  uint64_t version = world.committed().version;
  world.drives[0]->lose_connection();
  Status status = world.write(0, 256 * KiB, 2);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(world.committed().version, version);
  // The majority goes on with what it knows: the write happened, or it did not.
  world.power_off();
  ASSERT_OK(world.take_over(world.all_but({})));
  for (uint64_t at = 0; at < 256 * KiB; at += 4 * KiB) {
    int first = world.read(at, 4 * KiB);
    EXPECT_TRUE(first == 1 || first == 2) << first;
    EXPECT_EQ(world.read(at, 4 * KiB), first);
  }
  ASSERT_OK(world.write(0, 256 * KiB, 3));
  ASSERT_OK(world.in_sync());
  for (size_t i : {size_t{0}, size_t{1}}) {  // without either
    ASSERT_OK(world.run(world.array->fail_member(world.member(i), "test")));
    EXPECT_EQ(world.read(0, 256 * KiB), 3);
    ASSERT_OK(world.run(world.array->readmit_member(world.member(i))));
    ASSERT_OK(world.in_sync());
  }
}

TEST_P(Scenario, SixOfManyRecordsTheNewestCounts) {
  GTEST_SKIP() << "skipped: these stores have one copy of the record, and no voters";
}

TEST_P(Scenario, SevenAShortLossCopiesOnlyWhatWasWrittenMeanwhile) {
  ASSERT_OK(world.write(1 * MiB, 512 * KiB, 7));
  ASSERT_OK(world.flush());
  ASSERT_EQ(world.dirty_at_last(), 0u);
  world.drives[0]->lose_connection();
  ASSERT_OK(world.write(64 * KiB, 8 * KiB, 2));
  uint64_t before = world.array->describe().resynced_bytes;
  world.drives[0]->resume();
  ASSERT_OK(world.run(world.array->readmit_member(world.member(0))));
  ASSERT_OK(world.in_sync());
  uint64_t copied = world.array->describe().resynced_bytes - before;
  EXPECT_GT(copied, 0u);
  EXPECT_LE(copied, 2 * kRegion);
  EXPECT_EQ(world.read(64 * KiB, 8 * KiB), 2);
}

constexpr Case kCases[] = {{"model", "1.2"}, {"model", "10.4"}, {"model", "5.3"},
                           {"file", "1.2"},  {"file", "10.4"},  {"file", "5.3"}};
INSTANTIATE_TEST_SUITE_P(All, Scenario, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name = fmt::format("{}_{}", info.param.store, info.param.raid);
  std::ranges::replace(name, '.', '_');
  return name;
});

}  // namespace
}  // namespace bb::raid
