// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_fixture.h"

namespace bb::io::nvme {
namespace {

// Every combination of digests: write in the capsule and by R2T, read back.
TEST_F(TargetQueueTest, WriteAndRead) {
  for (int bits = 0; bits < 4; ++bits) {
    SCOPED_TRACE(bits);
    Digests digests{(bits & 1) != 0, (bits & 2) != 0};
    auto control = admin(digests);
    auto queue = io(*control, 1, digests);
    Buffer small = pattern(4096, 7);
    EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kWrite, 8, 8, 0), small).status,
              NvmeStatus::kSuccess);
    Buffer big = pattern(300 * 1024, 8);
    Sqe write = HostWire::io(IoOpcode::kWrite, 100, 600, 300 * 1024, 9);
    write.cdw12 |= kForceUnitAccess;
    queue->send(queue->wire.capsule(write));
    ASSERT_EQ(queue->seen.r2ts.size(), 1u);
    R2t r2t = queue->seen.r2ts[0];
    EXPECT_EQ(r2t.length_bytes, big.size());
    EXPECT_EQ(r2t.command_id, 9);
    for (uint32_t at = 0; at < big.size(); at += 65536) {
      auto piece = ConstBytes(big).subspan(at, std::min<size_t>(65536, big.size() - at));
      queue->send(queue->wire.h2c({.command_id = 9,
                                   .transfer_tag = r2t.transfer_tag,
                                   .offset_bytes = at,
                                   .last = at + piece.size() == big.size()},
                                  piece));
    }
    EXPECT_EQ(queue->last().status, NvmeStatus::kSuccess);
    EXPECT_TRUE(queue->target.ios.back().fua);
    queue->ask(HostWire::io(IoOpcode::kRead, 8, 8, 4096));
    EXPECT_EQ(queue->seen.data, small);
    queue->ask(HostWire::io(IoOpcode::kRead, 100, 600, 300 * 1024));
    EXPECT_EQ(queue->seen.data, big);
    EXPECT_FALSE(queue->seen.bad_digest || queue->seen.illegal);
    EXPECT_EQ(queue->target.buffers, 0);
    EXPECT_EQ(control->target.queue.controller()->counters.read_bytes, 4096u + 300 * 1024);
  }
}

TEST_F(TargetQueueTest, WithoutFlowControlReadsNeedNoResponse) {
  auto control = admin();
  auto queue = io(*control, 1, {}, kConnectNoFlowControl);
  EXPECT_EQ(queue->last().sq_head, 0xffff);
  size_t before = queue->seen.responses.size();
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  EXPECT_EQ(queue->seen.responses.size(), before);
  ASSERT_EQ(queue->seen.data_headers.size(), 1u);
  EXPECT_TRUE(queue->seen.data_headers[0].success && queue->seen.data_headers[0].last);
}

TEST_F(TargetQueueTest, OtherCommands) {
  auto control = admin();
  auto queue = io(*control);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kFlush, 0, 1, 0)).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.ios.back().op, TargetOp::kFlush);
  Sqe zeroes = HostWire::io(IoOpcode::kWriteZeroes, 16, 4096, 0);
  zeroes.cdw12 |= kDeallocate;
  EXPECT_EQ(queue->ask(zeroes).status, NvmeStatus::kSuccess);
  EXPECT_TRUE(queue->target.ios.back().may_discard);
  EXPECT_TRUE(all_zero(ConstBytes(memory).subspan(16 * 512, 4096 * 512)));
  Buffer same(memory.begin(), memory.begin() + 4096);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kCompare, 0, 8, 0), same).status,
            NvmeStatus::kSuccess);
  same[100] ^= std::byte{1};
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kCompare, 0, 8, 0), same).status,
            final_status(NvmeStatus::kCompareFailure));
  Buffer ranges(32);
  store_le<uint32_t>(ranges.data() + 4, 8);
  store_le<uint64_t>(ranges.data() + 8, 0);
  store_le<uint32_t>(ranges.data() + 20, 16);
  store_le<uint64_t>(ranges.data() + 24, 8000);
  Sqe trim = HostWire::io(IoOpcode::kDatasetManagement, 0, 1, 0);
  trim.cdw10 = 1;
  trim.cdw11 = kDsmDeallocate;
  size_t before = queue->target.ios.size();
  EXPECT_EQ(queue->ask(trim, ranges).status, NvmeStatus::kSuccess);
  ASSERT_EQ(queue->target.ios.size(), before + 2);
  EXPECT_EQ(queue->target.ios.back().offset_bytes, 8000u * 512);
  EXPECT_EQ(queue->target.ios.back().length_bytes, 16u * 512);
  trim.cdw11 = 0;  // only hints
  EXPECT_EQ(queue->ask(trim, ranges).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.ios.size(), before + 2);
  store_le<uint64_t>(ranges.data() + 24, kMemory / 512);
  trim.cdw11 = kDsmDeallocate;
  EXPECT_EQ(queue->ask(trim, ranges).status, final_status(NvmeStatus::kLbaOutOfRange));
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetQueueTest, CommandErrors) {
  auto control = admin();
  auto queue = io(*control);
  constexpr uint64_t kEnd = kMemory / 512;
  struct Case {
    const char* name;
    Sqe sqe;
    NvmeStatus status;
  };
  auto change = [](Sqe sqe, auto how) {
    how(sqe);
    return sqe;
  };
  Sqe read = HostWire::io(IoOpcode::kRead, 0, 1, 512);
  const Case cases[] = {
      {"beyond the end", HostWire::io(IoOpcode::kRead, kEnd, 1, 512), NvmeStatus::kLbaOutOfRange},
      {"across the end", HostWire::io(IoOpcode::kRead, kEnd - 1, 2, 1024),
       NvmeStatus::kLbaOutOfRange},
      {"wraps", HostWire::io(IoOpcode::kRead, UINT64_MAX, 2, 1024), NvmeStatus::kLbaOutOfRange},
      {"SGL shorter", HostWire::io(IoOpcode::kRead, 0, 2, 512), NvmeStatus::kSglDataLengthInvalid},
      {"above MDTS", HostWire::io(IoOpcode::kRead, 0, 4096, 2 << 20), NvmeStatus::kInvalidField},
      {"a namespace that is not there", change(read, [](Sqe& s) { s.nsid = 2; }),
       NvmeStatus::kInvalidField},
      {"a namespace that cannot be", change(read, [](Sqe& s) { s.nsid = 1025; }),
       NvmeStatus::kInvalidNamespace},
      {"all namespaces", change(read, [](Sqe& s) { s.nsid = kNsidAll; }),
       NvmeStatus::kInvalidNamespace},
      {"unknown opcode", change(read, [](Sqe& s) { s.opcode = 0x10; }), NvmeStatus::kInvalidOpcode},
      {"PRP", change(read, [](Sqe& s) { s.flags = 0; }), NvmeStatus::kInvalidField},
      {"fused", change(read, [](Sqe& s) { s.flags |= 1; }), NvmeStatus::kInvalidField},
      {"keyed SGL", change(read, [](Sqe& s) { s.sgl.type = 0x40; }), NvmeStatus::kSglTypeInvalid},
      {"read into the capsule", change(read, [](Sqe& s) { s.sgl.type = 1; }),
       NvmeStatus::kSglTypeInvalid},
      {"write with an offset",
       change(read,
              [](Sqe& s) {
                s.opcode = 1;
                s.sgl = {.address = 4, .length_bytes = 512, .type = 1};
              }),
       NvmeStatus::kSglOffsetInvalid},
      {"data announced, none there",
       change(read,
              [](Sqe& s) {
                s.opcode = 1;
                s.sgl.type = 1;
              }),
       NvmeStatus::kSglDataLengthInvalid},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    EXPECT_EQ(queue->ask(test.sqe).status, final_status(test.status));
  }
  Buffer data(512);  // data behind a command that takes none goes by unharmed
  EXPECT_EQ(queue->ask(change(read, [](Sqe& s) { s.sgl.type = 0x5a; }), data).status,
            final_status(NvmeStatus::kSglDataLengthInvalid));
  EXPECT_EQ(queue->ask(read).status, NvmeStatus::kSuccess);
  EXPECT_EQ(queue->target.buffers, 0);
}

TEST_F(TargetQueueTest, DeviceErrors) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.fails = Code::k_io_error;
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kRead, 0, 1, 512)).status,
            NvmeStatus::kUnrecoveredReadError);
  EXPECT_TRUE(queue->seen.data.empty());
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kWrite, 0, 1, 0), Buffer(512)).status,
            NvmeStatus::kWriteFault);
  queue->target.fails = Code::k_unavailable;
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kFlush, 0, 1, 0)).status,
            NvmeStatus::kNamespaceNotReady);
  EXPECT_EQ(control->target.queue.controller()->counters.errors, 3u);
}

TEST_F(TargetQueueTest, ADataDigestErrorFailsTheCommandOnly) {
  auto control = admin({true, true});
  auto queue = io(*control, 1, {true, true});
  Buffer before = memory;
  Buffer capsule = queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 3));
  capsule[1000] ^= std::byte{4};
  queue->send(capsule);
  EXPECT_EQ(queue->last().status, NvmeStatus::kTransientTransportError);
  EXPECT_TRUE(may_retry(queue->last().status));
  EXPECT_EQ(memory, before);
  EXPECT_EQ(queue->ask(HostWire::io(IoOpcode::kRead, 0, 1, 512)).status, NvmeStatus::kSuccess);
  EXPECT_EQ(control->target.queue.controller()->counters.digest_errors, 1u);
}

struct Illegal {
  const char* name;
  Buffer (*make)(const HostWire& wire, R2t r2t);
  FatalError error;
  uint32_t information;
};

// On an I/O queue with one write of 8192 bytes whose R2T is out.
const Illegal kIllegals[] = {
    {"unknown tag",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = 999}, Buffer(512));
     },
     FatalError::kInvalidHeaderField, 10},
    {"free tag",
     [](const HostWire& w, R2t r) {
       return w.h2c(
           {.command_id = r.command_id, .transfer_tag = static_cast<uint16_t>(r.transfer_tag + 1)},
           Buffer(512));
     },
     FatalError::kInvalidHeaderField, 10},
    {"other command",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = 1, .transfer_tag = r.transfer_tag}, Buffer(512));
     },
     FatalError::kInvalidHeaderField, 8},
    {"out of order",
     [](const HostWire& w, R2t r) {
       return w.h2c(
           {.command_id = r.command_id, .transfer_tag = r.transfer_tag, .offset_bytes = 512},
           Buffer(512));
     },
     FatalError::kInvalidHeaderField, 12},
    {"too much",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag, .last = true},
                    Buffer(8196));
     },
     FatalError::kDataOutOfRange, 0},
    {"last too early",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag, .last = true},
                    Buffer(512));
     },
     FatalError::kInvalidHeaderField, 1},
    {"last missing",
     [](const HostWire& w, R2t r) {
       return w.h2c({.command_id = r.command_id, .transfer_tag = r.transfer_tag}, Buffer(8192));
     },
     FatalError::kInvalidHeaderField, 1},
    {"second ICReq", [](const HostWire&, R2t) { return HostWire::ic_req(); }, FatalError::kSequence,
     0},
};

TEST_F(TargetQueueTest, IllegalPdusEndTheConnectionWithTheReason) {
  auto control = admin();
  uint16_t id = 0;
  for (const Illegal& test : kIllegals) {
    SCOPED_TRACE(test.name);
    auto queue = io(*control, ++id);
    queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9)));
    ASSERT_EQ(queue->seen.r2ts.size(), 1u);
    Buffer bad = test.make(queue->wire, queue->seen.r2ts[0]);
    queue->send(bad);
    EXPECT_EQ(queue->seen.term.error, test.error);
    EXPECT_EQ(queue->seen.term.information, test.information);
    size_t header = static_cast<size_t>(bad[2]);
    EXPECT_EQ(hex(queue->seen.term_header).substr(0, 23), hex(ConstBytes(bad).first(8)));
    EXPECT_LE(queue->seen.term_header.size(), header);
    EXPECT_TRUE(queue->target.queue.closing());
    EXPECT_TRUE(queue->target.queue.term_sent());
  }
  EXPECT_FALSE(control->target.queue.closing());
}

TEST_F(TargetQueueTest, DataBeforeItsR2tHasLeftIsIllegal) {
  auto control = admin();
  auto queue = io(*control);
  Buffer bytes = queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9));
  for (uint16_t tag = 0; tag < 256; ++tag) {  // whichever slot it got
    test::append(
        bytes, queue->wire.h2c({.command_id = 9, .transfer_tag = tag, .last = true}, Buffer(8192)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.term.error, FatalError::kInvalidHeaderField);
  EXPECT_EQ(queue->seen.term.information, 10u);
}

TEST_F(TargetQueueTest, MoreCommandsThanTheQueueHolds) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.held = true;
  Buffer bytes;
  for (int i = 0; i < 129; ++i) {
    test::append(bytes, queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.term.error, FatalError::kSequence);
}

TEST_F(TargetQueueTest, LongDataIsReceivedWhereItBelongs) {
  for (bool digests : {false, true}) {
    auto control = admin();
    auto link = io(*control, 1, {digests, digests});
    TargetQueue& queue = link->target.queue;
    const Buffer data = pattern(128 * 1024, 7);
    link->send(link->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 256, 128 * 1024, 9)));
    ASSERT_EQ(link->seen.r2ts.size(), 1u);
    EXPECT_TRUE(queue.direct_target().empty());
    uint16_t tag = link->seen.r2ts[0].transfer_tag;
    Buffer pdu = link->wire.h2c({.command_id = 9, .transfer_tag = tag, .last = true}, data);
    size_t header = pdu.size() - data.size() - (digests ? kDigestBytes : 0);
    queue.on_bytes(ConstBytes(pdu).first(header + 1000), 1);
    EXPECT_TRUE(queue.expects_long_data());
    Bytes place = queue.direct_target();
    ASSERT_EQ(place.size(), data.size() - 1000);
    std::memcpy(place.data(), pdu.data() + header + 1000, place.size());
    queue.on_bytes(ConstBytes(place).first(100'000), 1);
    EXPECT_EQ(queue.direct_target().data(), place.data() + 100'000);
    queue.on_bytes(ConstBytes(place).subspan(100'000), 1);
    EXPECT_TRUE(queue.direct_target().empty());
    link->send(ConstBytes(pdu).last(digests ? kDigestBytes : 0));
    EXPECT_EQ(link->last().status, NvmeStatus::kSuccess);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), memory.begin()));
  }
}

// A long send gives the host the first answers before the last: it may go on, to the same depth.
TEST_F(TargetQueueTest, AnAnswerThatLeavesMakesRoomForACommand) {
  auto control = admin();
  auto link = io(*control);
  TargetQueue& queue = link->target.queue;
  Buffer full;
  for (int i = 0; i < 128; ++i) {
    test::append(full, link->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  }
  auto answer_all = [&] {
    while (auto slot = queue.next_io()) queue.on_io_done(*slot, Code::k_ok);
  };
  queue.on_bytes(full, 1);
  answer_all();
  ASSERT_NE(queue.outgoing(), nullptr);  // and is not sent for a while
  queue.on_bytes(full, 1);
  answer_all();
  EXPECT_FALSE(queue.closing()) << queue.close_reason();
  EXPECT_EQ(queue.outgoing(), nullptr);
  queue.on_sent();
  ASSERT_NE(queue.outgoing(), nullptr);
  queue.on_sent();
  test::append(full, link->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)));
  queue.on_bytes(full, 1);
  EXPECT_TRUE(queue.closing());
}

class SmallMemory : public TargetQueueTest {
 protected:
  SmallMemory()
      : TargetQueueTest({.buffered_bytes = 64 * 1024, .buffered_reserve_bytes = 16 * 1024}) {}
};

// Many queues whose answers nobody takes: the first ones have much, later ones their reserve, and
// all together no more than the total and what each may always have.
TEST_F(TargetQueueTest, MemoryIsSharedByAllQueues) {
  const TargetLimits limits{.io_queues = 64,
                            .transfer_bytes = 256 * 1024,
                            .buffered_bytes = 1 << 20,
                            .buffered_total_bytes = 4 << 20,
                            .buffered_reserve_bytes = 64 * 1024};
  TargetCore small(limits);
  EXPECT_TRUE(small.add_subsystem(test::fake_subsystem(kMemory)).ok());
  Link control(small, memory);
  control.init();
  control.send(control.wire.connect(0, 31, 0xffff));
  control.ask(HostWire::property_set_cc(kCcEntrySizes | kCcEnable));
  std::vector<std::unique_ptr<Link>> greedy;
  Buffer reads;
  for (uint16_t i = 0; i < 100; ++i) {
    test::append(reads, control.wire.capsule(HostWire::io(IoOpcode::kRead, 0, 512, 256 * 1024, i)));
  }
  for (uint16_t id = 1; id < 64; ++id) {
    greedy.push_back(std::make_unique<Link>(small, memory));
    Link& link = *greedy.back();
    link.init();
    link.send(link.wire.connect(id, 127, control.target.queue.controller()->id()));
    link.target.held = true;
    link.target.queue.on_bytes(reads, 1);
  }
  EXPECT_LE(small.buffered_bytes, limits.buffered_total_bytes + 63 * limits.transfer_bytes);
  EXPECT_GT(small.buffered_bytes, 63 * uint64_t{limits.transfer_bytes});
  Link healthy(small, memory);
  healthy.init();
  healthy.send(healthy.wire.connect(64, 127, control.target.queue.controller()->id()));
  Buffer few;
  for (uint16_t i = 0; i < 16; ++i) {
    test::append(few, healthy.wire.capsule(HostWire::io(IoOpcode::kRead, 0, 8, 4096, i)));
  }
  healthy.target.queue.on_bytes(few, 1);
  int started = 0;
  while (auto slot = healthy.target.queue.next_io()) {
    healthy.target.queue.on_io_done(*slot, Code::k_ok);
    ++started;
  }
  EXPECT_EQ(started, 16);
  for (auto& link : greedy) link->target.held = false, link->target.run();
  EXPECT_EQ(greedy[0]->seen.illegal, false);
  greedy.clear();
  healthy.target.run();
  EXPECT_EQ(small.buffered_bytes, 0u);
}

// Commands beyond the memory limit wait their turn; nothing is lost.
TEST_F(SmallMemory, CommandsWaitForBuffers) {
  auto control = admin();
  auto queue = io(*control);
  Buffer bytes;
  size_t before = queue->seen.responses.size();
  for (uint16_t i = 0; i < 100; ++i) {
    test::append(bytes, queue->wire.capsule(HostWire::io(IoOpcode::kRead, i, 64, 32768, i)));
  }
  queue->send(bytes);
  EXPECT_EQ(queue->seen.responses.size(), before + 100);
  EXPECT_LE(queue->target.most_bytes, 64u * 1024);
  EXPECT_EQ(queue->target.buffers, 0);
}

// Data of a host whose answers are never sent: slots and buffers come back when it ends.
TEST_F(TargetQueueTest, EndAtEveryPoint) {
  auto control = admin({true, true});
  Buffer session;
  HostWire wire{.format = {.digests = {true, true}}};
  test::append(session, HostWire::ic_req({true, true}));
  test::append(session, wire.connect(1, 127, control->target.queue.controller()->id()));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096)));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 16, 8192, 9)));
  test::append(session, wire.capsule(HostWire::io(IoOpcode::kRead, 0, 16, 8192, 10)));
  for (size_t at = 0; at <= session.size(); at += 13) {
    int64_t left = 0;
    {
      FakeConnection connection(core, memory);
      connection.exchange(ConstBytes(session).first(at));
      connection.queue.close("cut");
      EXPECT_FALSE(connection.queue.next_io().has_value());
      EXPECT_EQ(connection.queue.outgoing(), nullptr);
      left = connection.buffers;
    }
    EXPECT_GE(left, 0);
    EXPECT_EQ(core.controllers().size(), 1u);
  }
}

TEST_F(TargetQueueTest, KeepAlive) {
  auto control = admin({}, 2000);
  auto queue = io(*control);
  constexpr uint64_t kSecond = 1'000'000'000;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kRead, 0, 1, 512)), 2 * kSecond);
  core.expire(4 * kSecond);  // any command counts
  EXPECT_FALSE(control->target.queue.closing());
  control->send(control->wire.capsule(HostWire::admin(AdminOpcode::kKeepAlive, 0, 0)), 4 * kSecond);
  core.expire(7 * kSecond);
  EXPECT_FALSE(control->target.queue.closing());
  core.expire(7 * kSecond + 1);
  EXPECT_TRUE(control->target.queue.closing());
  EXPECT_TRUE(queue->target.queue.closing());
  EXPECT_EQ(queue->target.queue.close_reason(), "no keep alive in time");
  EXPECT_TRUE(core.controllers().empty());
}

// A process that was stopped for a while wakes up to bytes and to a timeout at once: its host may
// have gone on by another path.
TEST_F(TargetQueueTest, NothingIsExecutedOnceTheKeepAliveHasRunOut) {
  auto control = admin({}, 2000);
  auto queue = io(*control);
  constexpr uint64_t kSecond = 1'000'000'000;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 5)),
              3 * kSecond + 2);
  EXPECT_TRUE(queue->target.ios.empty());
  EXPECT_EQ(queue->target.queue.close_reason(), "no keep alive in time");
  EXPECT_EQ(memory, pattern(kMemory));
}

TEST_F(TargetQueueTest, NothingIsSubmittedOnceAHostIsCutOff) {
  auto control = admin();
  auto queue = io(*control);
  queue->target.held = true;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 5)));
  core.end_controllers([](const Controller&) { return true; }, "fenced");
  queue->target.held = false;
  queue->send(queue->wire.capsule(HostWire::io(IoOpcode::kWrite, 0, 8, 0), pattern(4096, 6)));
  EXPECT_TRUE(queue->target.ios.empty());
  EXPECT_EQ(memory, pattern(kMemory));
}

}  // namespace
}  // namespace bb::io::nvme
