// SPDX-License-Identifier: Apache-2.0
// The array over drives that fail, an authority that does not answer, and crashes of its own.
#include "array_world.h"

namespace bb::raid {
namespace {

TEST(Array, WritesReachEveryMemberAndReadsAreShared) {
  World world(3);
  ASSERT_OK(world.create());
  EXPECT_EQ(world.array->describe().state, "online");
  ASSERT_OK(world.write(65536, 8192, 7));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(world.on_drive(i, 65536 + 8191), 7);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(world.read(65536, 8192), 7);
  for (auto& drive : world.drives) EXPECT_GT(drive->reads, 5u);
  ASSERT_OK(world.flush());
  for (auto& drive : world.drives)
    EXPECT_EQ(drive->platter()[kDataOffsetBytes + 65536], std::byte{7});
}

TEST(Array, TheBitIsDurableBeforeTheDataAndClearedLater) {
  World world;
  ASSERT_OK(world.create());
  world.nap_ms(2);
  for (auto& drive : world.drives) drive->order.clear();
  bool bit_first = true;
  for (auto& drive : world.drives) {
    FakeDrive* self = drive.get();
    drive->fault = [self, &bit_first](const io::IoRequest& io) {
      if (io.op == io::IoOp::kWrite && io.offset_bytes >= kDataOffsetBytes) {
        // Region 1 is bit 1 of page 0; look at the platter, not at the cache.
        std::byte bits = self->platter()[kBitmapOffsetBytes + kBitmapPageHeaderBytes];
        bit_first = bit_first && (bits & std::byte{2}) != std::byte{0};
      }
      return Status();
    };
  }
  ASSERT_OK(world.write(kRegion, 4096, 1));
  EXPECT_TRUE(bit_first);
  EXPECT_EQ(world.array->describe().dirty_regions, 1u);
  EXPECT_EQ(world.dirty_at_last(), 0u);
  for (auto& drive : world.drives) {
    EXPECT_EQ(drive->platter()[kBitmapOffsetBytes + kBitmapPageHeaderBytes], std::byte{0});
  }
}

TEST(Array, AnswersZeroesAndDiscardAlikeOnAllMembers) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 65536, 9));
  auto zero = [](Array* array, bool discard) -> Task<Status> {
    if (discard) co_return co_await array->discard(4096, 4096);
    co_return co_await array->write_zeroes(0, 4096);
  };
  ASSERT_OK(world.run(zero(world.array.get(), false)));
  ASSERT_OK(world.run(zero(world.array.get(), true)));
  EXPECT_EQ(world.read(0, 8192), 0);
  EXPECT_EQ(world.read(8192, 4096), 9);
  EXPECT_EQ(world.on_drive(0, 5000), world.on_drive(1, 5000));
}

TEST(Array, AWriteIsAnsweredOnlyAfterTheFailureIsCommitted) {
  World world;
  ASSERT_OK(world.create());
  world.drives[1]->fault = [](const io::IoRequest& io) {
    return io.op == io::IoOp::kWrite ? error(Code::k_io_error, "bad sector") : Status();
  };
  ASSERT_OK(world.write(0, 4096, 5));
  ASSERT_EQ(world.authority.history.size(), 2u);
  EXPECT_EQ(world.authority.history[1].members[1].state, MemberState::kFailed);
  EXPECT_EQ(world.array->describe().state, "online (degraded)");
  world.drives[1]->fault = nullptr;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(world.read(0, 4096), 5);
  // The bits stay while somebody is away.
  world.nap_ms(40);
  EXPECT_EQ(world.array->describe().dirty_regions, 1u);
}

TEST(Array, WithoutAMajorityADegradedWriteFailsAndIsNeverAcknowledged) {
  World world;
  ASSERT_OK(world.create());
  world.authority.unreachable = true;
  world.drives[0]->lose_connection();
  Status status = world.write(0, 4096, 5);
  EXPECT_EQ(status.code(), Code::k_unavailable) << status.to_string();
  EXPECT_EQ(world.read(4096, 4096), 0);  // reads go on
  // The majority is back: so are writes, without anybody's help.
  world.authority.unreachable = false;
  ASSERT_OK(world.write(0, 4096, 6));
  EXPECT_EQ(world.state(0), MemberState::kFailed);
}

TEST(Array, OutcomesOfCommitsThatAreNotKnownAreFoundOut) {
  for (bool stored : {false, true}) {
    for (Code code : {Code::k_timed_out, Code::k_unavailable}) {
      World world;
      ASSERT_OK(world.create());
      world.authority.troubles = {{code, stored}};
      world.drives[0]->lose_connection();
      ASSERT_OK(world.write(0, 4096, 5));
      const MembershipRecord& record = world.authority.records.begin()->second;
      EXPECT_EQ(record.members[0].state, MemberState::kFailed);
      EXPECT_EQ(record.version, 2u);
      EXPECT_EQ(world.array->describe().version, 2u);
    }
  }
}

TEST(Array, AnOlderOwnerStopsItself) {
  World world;
  ASSERT_OK(world.create());
  MembershipRecord& record = world.authority.records.begin()->second;
  ++record.version;
  record.epoch = 9;
  world.drives[0]->lose_connection();
  EXPECT_EQ(world.write(0, 4096, 5).code(), Code::k_fenced);
  EXPECT_EQ(world.write(8192, 4096, 5).code(), Code::k_fenced);
  EXPECT_EQ(world.read(0, 4096), -2);
  EXPECT_EQ(world.array->describe().state, "fenced");
  (void)world.stop();
  world.options.epoch = 8;
  world.drives[0]->reopen();
  EXPECT_EQ(world.assemble({0, 1}).code(), Code::k_fenced);
}

TEST(Array, AReconnectIsALossEvenWhenItIsBackAtOnce) {
  World world;
  world.options.auto_readmit = true;
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 4096, 5));  // acknowledged, not flushed
  world.drives[0]->blink();            // and drive 0 lost it
  for (int i = 0; i < 10; ++i) ASSERT_EQ(world.read(0, 4096), 5);
  ASSERT_OK(world.write(131072, 4096, 6));
  ASSERT_OK(world.in_sync());
  EXPECT_EQ(world.on_drive(0, 0), 5);
  EXPECT_EQ(world.array->describe().state, "online");
  EXPECT_LE(world.array->describe().resynced_bytes, 2 * kRegion);
}

TEST(Array, ReadmitCopiesOnlyWhatWasMissed) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 65536, 1));
  ASSERT_OK(world.flush());
  ASSERT_EQ(world.dirty_at_last(), 0u);
  world.drives[1]->lose_connection();
  ASSERT_OK(world.write(5 * kRegion, 4096, 2));
  ASSERT_OK(world.write(9 * kRegion, 4096, 3));
  EXPECT_EQ(world.run(world.array->readmit_member(world.member(1))).code(), Code::k_unavailable);
  world.drives[1]->reconnect(true);
  world.drives[1]->data_bytes_written = 0;
  ASSERT_OK(world.run(world.array->readmit_member(world.member(1))));
  ASSERT_OK(world.in_sync());
  EXPECT_EQ(world.drives[1]->data_bytes_written, 2 * kRegion + 4096);  // and one superblock copy
  EXPECT_EQ(world.on_drive(1, 9 * kRegion), 3);
  EXPECT_EQ(world.drives[1]->platter()[kDataOffsetBytes + 5 * kRegion], std::byte{2});
  EXPECT_EQ(world.state(1), MemberState::kInSync);
  EXPECT_EQ(world.dirty_at_last(), 0u);
}

TEST(Array, TheLastInSyncMemberStays) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  Status status = world.run(world.array->fail_member(world.member(1), "test"));
  EXPECT_EQ(status.code(), Code::k_bad_state);
  EXPECT_NE(status.text().find("the last in-sync member"), std::string::npos);
  world.drives[1]->fault = [](const io::IoRequest& io) {
    return io.op == io::IoOp::kWrite ? error(Code::k_io_error, "bad sector") : Status();
  };
  EXPECT_FALSE(world.write(0, 4096, 5).ok());
  EXPECT_EQ(world.state(1), MemberState::kInSync);
  world.drives[1]->fault = nullptr;
  ASSERT_OK(world.write(0, 4096, 6));
}

TEST(Array, AllMembersGoneThenOneThatLostNothingGoesOn) {
  World world;
  ASSERT_OK(world.create());
  world.drives[0]->lose_connection();
  world.drives[1]->lose_connection();
  EXPECT_EQ(world.write(0, 4096, 5).code(), Code::k_unavailable);
  EXPECT_EQ(world.array->describe().state, "recover");
  EXPECT_EQ(world.authority.history.size(), 1u);  // nobody left to go on with: nothing is committed
  world.drives[1]->resume();
  world.nap_ms(5);
  ASSERT_OK(world.write(0, 4096, 6));
  EXPECT_EQ(world.state(0), MemberState::kFailed);
  EXPECT_EQ(world.read(0, 4096), 6);
}

TEST(Array, TheLastMemberThatLostUnflushedWritesIsNotGoneOnWith) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  ASSERT_OK(world.write(0, 4096, 5));
  world.drives[1]->lose_connection();
  world.drives[1]->reconnect(true);
  EXPECT_EQ(world.write(0, 4096, 6).code(), Code::k_unavailable);
  EXPECT_EQ(world.read(0, 4096), -2);
  EXPECT_EQ(world.array->describe().state, "recover");
  (void)world.stop();  // whoever owns the array decides to start it again
  ASSERT_OK(world.assemble({1}));
  ASSERT_OK(world.write(0, 4096, 6));
}

TEST(Array, UnreadableRangesAreServedFromAnotherMemberAndRewritten) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 8192, 4));
  bool bad = true;
  world.drives[0]->fault = [&bad](const io::IoRequest& io) {
    bool here = io.offset_bytes == kDataOffsetBytes;
    if (here && io.op == io::IoOp::kWrite) bad = false;
    return here && bad && io.op == io::IoOp::kRead ? error(Code::k_io_error, "medium") : Status();
  };
  for (int i = 0; i < 4; ++i) EXPECT_EQ(world.read(0, 4096), 4);
  EXPECT_FALSE(bad);
  EXPECT_EQ(world.array->describe().members[0].repaired_ranges, 1u);
  EXPECT_EQ(world.array->describe().state, "online");
}

TEST(Array, OverlappingWritesEndAlikeOnAllMembers) {
  Prng prng(3);  // before the world, whose drives use it until the array has stopped
  World world(3);
  ASSERT_OK(world.create());
  for (auto& drive : world.drives) {
    FakeDrive* self = drive.get();
    drive->fault = [self, &prng](const io::IoRequest&) {
      self->latency_ns = prng.below(200'000);
      return Status();
    };
  }
  auto one = [](Array* array, uint64_t offset, std::vector<std::byte>* data) -> Task<void> {
    Status status = co_await array->write(offset, *data);
    EXPECT_TRUE(status.ok()) << status.to_string();
  };
  std::vector<std::vector<std::byte>> data;
  for (int i = 0; i < 64; ++i) data.emplace_back(8192, static_cast<std::byte>(i + 1));
  auto all = [one](World* w, std::vector<std::vector<std::byte>>* bytes) -> Task<void> {
    io::TaskGroup group(*w->reactor);
    uint64_t offset = 0;
    for (auto& b : *bytes) group.spawn(one(w->array.get(), (offset++ % 4) * 4096, &b));
    co_await group.join();
  };
  world.run(all(&world, &data));
  for (auto& drive : world.drives) drive->latency_ns = 0;
  for (uint64_t at = 0; at < 32768; at += 512) {
    EXPECT_EQ(world.on_drive(0, at), world.on_drive(1, at)) << at;
    EXPECT_EQ(world.on_drive(0, at), world.on_drive(2, at)) << at;
  }
}

TEST(Array, AfterACrashAReadNeverGoesBack) {
  World world;
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 4096, 1));
  ASSERT_OK(world.flush());
  world.crash(true);
  world.put_on_drive(0, 0, 4096, 2);  // a write that was under way reached one member only
  world.options.resync_bytes_per_second = world.options.resync_busy_bytes_per_second = 1;
  ASSERT_OK(world.assemble({1, 0}));
  int first = world.read(0, 4096);
  EXPECT_TRUE(first == 1 || first == 2);
  world.crash(true);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(world.on_drive(i, 0), first) << i;
}

TEST(Array, AfterACrashDirtyRegionsAndOnlyThoseAreMadeEqual) {
  World world;
  ASSERT_OK(world.create());
  world.nap_ms(2);
  ASSERT_OK(world.write(3 * kRegion, 4096, 1));
  world.crash(true);
  world.put_on_drive(0, 3 * kRegion, 512, 7);
  ASSERT_OK(world.assemble({0, 1}));
  ASSERT_OK(world.in_sync());
  EXPECT_EQ(world.on_drive(0, 3 * kRegion), world.on_drive(1, 3 * kRegion));
  EXPECT_EQ(world.array->describe().resync_done_bytes, kRegion);
  ASSERT_OK(world.stop());
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.array->describe().dirty_regions, 0u);  // a clean stop leaves nothing
}

TEST(Array, OnlyTheRecordDecidesWhoIsUsed) {
  World world;
  ASSERT_OK(world.create());
  world.drives[0]->lose_connection();
  ASSERT_OK(world.write(0, 4096, 5));  // only drive 1 has it
  world.crash(true);
  world.drives[0]->reopen();
  Status alone = world.assemble({0});
  EXPECT_EQ(alone.code(), Code::k_unavailable);
  EXPECT_NE(alone.text().find("recover: none of the 1 in-sync members of version 2"),
            std::string::npos)
      << alone.text();
  ASSERT_OK(world.assemble({0, 1}));
  EXPECT_EQ(world.array->describe().state, "online (degraded)");
  EXPECT_EQ(world.array->describe().left_out.size(), 1u);
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(world.read(0, 4096), 0);  // unflushed, lost by drive 1 as well
  ASSERT_OK(world.run(world.array->readmit_member(world.member(0))));
  ASSERT_OK(world.in_sync());
}

TEST(Array, AbsentMembersAreCommittedAsFailedBeforeAnythingIsServed) {
  World world(3);
  ASSERT_OK(world.create());
  ASSERT_OK(world.stop());
  world.options.epoch = 2;
  ASSERT_OK(world.assemble({2, 0}));
  EXPECT_EQ(world.state(1), MemberState::kFailed);
  EXPECT_EQ(world.authority.records.begin()->second.epoch, 2u);
  EXPECT_NE(world.array->describe().reason.find("member 1 drive1 was absent"), std::string::npos)
      << world.array->describe().reason;
}

TEST(Array, AnOldCopyOfADriveIsRejected) {
  World world;
  ASSERT_OK(world.create());
  FakeDrive& copy = world.add_drive();
  std::copy(world.drives[0]->platter().begin(), world.drives[0]->platter().end(),
            copy.platter().begin());
  copy.power_cycle();
  ASSERT_OK(world.run(world.array->fail_member(world.member(0), "test")));
  ASSERT_OK(world.run(world.array->readmit_member(world.member(0))));
  ASSERT_OK(world.in_sync());
  ASSERT_OK(world.stop());
  Status both = world.assemble({0, 1, 2});
  EXPECT_EQ(both.code(), Code::k_already_exists) << both.to_string();
  ASSERT_OK(world.assemble({2, 1}));
  ASSERT_EQ(world.array->describe().left_out.size(), 1u);
  EXPECT_NE(world.array->describe().left_out[0].find("rejected: stale generation 1 < 4"),
            std::string::npos)
      << world.array->describe().left_out[0];
}

TEST(Array, ReplaceCopiesEverythingAlsoAcrossACrash) {
  World world;
  ASSERT_OK(world.create());
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(world.write(static_cast<uint64_t>(i) * kRegion, 4096, i + 1));
  }
  ASSERT_OK(world.flush());
  ASSERT_EQ(world.dirty_at_last(), 0u);
  FakeDrive& fresh = world.add_drive();
  world.array->set_resync_rate(10 * MiB, 10 * MiB);
  ASSERT_OK(world.run(world.array->replace_member(world.member(0), MemberDevice::borrow(fresh))));
  EXPECT_NE(world.array->describe().state.find("online (recovering "), std::string::npos);
  ASSERT_OK(world.write(kRegion, 4096, 99));
  world.crash(true);
  ASSERT_OK(world.assemble({0, 1, 2}));
  EXPECT_EQ(world.array->describe().left_out.size(), 1u);  // the old one was removed
  ASSERT_OK(world.in_sync());
  for (uint64_t at = 0; at < world.array->info().size_bytes; at += 4096) {
    ASSERT_EQ(world.on_drive(1, at), world.on_drive(2, at)) << at;
  }
  EXPECT_EQ(world.dirty_at_last(), 0u);
}

// A flush waits for a slow member; meanwhile that one is replaced, and the new one is in-sync
// before the flush ends. It was not asked to flush, and need not be: its recovery was flushed.
TEST(Array, AFlushSurvivesAPromotionWhileItIsUnderWay) {
  World world(3);
  ASSERT_OK(world.create());
  ASSERT_OK(world.write(0, 4096, 7));
  FakeDrive& fresh = world.add_drive();
  std::optional<Status> answer;
  auto one = [](Array* array, std::optional<Status>* status) -> Task<void> {
    *status = co_await array->flush();
  };
  io::TaskGroup group(*world.reactor);
  world.drives[2]->latency_ns = 2 * kNsPerSecond;
  group.spawn(one(world.array.get(), &answer));
  world.drives[2]->latency_ns = 0;
  ASSERT_OK(world.run(world.array->replace_member(world.member(2), MemberDevice::borrow(fresh))));
  ASSERT_OK(world.in_sync());
  ASSERT_FALSE(answer.has_value());
  world.run(group.join());
  ASSERT_TRUE(answer.has_value());
  ASSERT_OK(*answer);
  fresh.power_cycle();
  EXPECT_EQ(world.on_drive(3, 0), 7);  // what was flushed is durable on the new one too
}

TEST(Array, InitialSyncMakesAllEqual) {
  World world;
  world.put_on_drive(0, 0, MiB, 3);
  world.put_on_drive(1, 0, MiB, 4);
  ASSERT_OK(world.create(false));
  ASSERT_OK(world.in_sync());
  EXPECT_EQ(world.on_drive(0, 5000), world.on_drive(1, 5000));
  EXPECT_EQ(world.array->describe().state, "online");
}

}  // namespace
}  // namespace bb::raid
