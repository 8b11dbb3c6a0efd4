// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/initiator_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/crc32c.h"
#include "base/prng.h"

namespace bb::io::nvme {
namespace {

using Buffer = std::vector<std::byte>;

// The other side, by hand: takes what the queue sends apart, and makes what a target would send.
struct Peer {
  explicit Peer(Digests d, uint32_t h2c_max = 4096) : digests(d), h2c_data_max_bytes(h2c_max) {}

  Digests digests;
  uint32_t h2c_data_max_bytes;
  PduReader reader{Role::kController, {.capsule_data_max_bytes = 8192}};
  struct Pdu {
    PduHeader header;
    Buffer head;
    Buffer data;
    bool digest_ok = true;
  };
  std::vector<Pdu> got;

  PduFormat format() const { return {.digests = digests}; }

  void take(ConstBytes bytes) {
    for (;;) {
      PduEvent event = reader.next(bytes);
      if (event.kind == PduEvent::Kind::kNeedMore) return;
      ASSERT_NE(event.kind, PduEvent::Kind::kIllegal) << reader.violation().what;
      if (event.kind == PduEvent::Kind::kHeader) {
        got.push_back(
            {.header = reader.header(), .head = {event.bytes.begin(), event.bytes.end()}});
        if (got.back().header.type == PduType::kIcReq) reader.negotiated(format());
      } else if (event.kind == PduEvent::Kind::kData) {
        got.back().data.insert(got.back().data.end(), event.bytes.begin(), event.bytes.end());
      } else {
        got.back().digest_ok = event.digest_ok;
      }
    }
  }
  Buffer ic_resp() const {
    Buffer out(kIcBytes);
    IcResp{.digests = digests, .h2c_data_max_bytes = h2c_data_max_bytes}.encode(out);
    return out;
  }
  Buffer response(uint16_t id, NvmeStatus status = NvmeStatus::kSuccess) const {
    std::byte cqe[kCqeBytes];
    Cqe{.command_id = id, .status = status}.encode(cqe);
    Buffer out(kHeaderRoomBytes);
    out.resize(encode_capsule_resp(out, cqe, format()));
    return out;
  }
  Buffer data(uint16_t id, uint32_t offset, ConstBytes bytes, bool last, bool success = false,
              uint32_t damage = 0) const {
    Buffer out(kHeaderRoomBytes);
    DataHeader header{.command_id = id,
                      .offset_bytes = offset,
                      .length_bytes = static_cast<uint32_t>(bytes.size()),
                      .last = last,
                      .success = success};
    out.resize(encode_c2h_data(out, header, format()));
    out.insert(out.end(), bytes.begin(), bytes.end());
    if (digests.data) {
      out.resize(out.size() + kDigestBytes);
      store_digest(&out[out.size() - kDigestBytes], crc32c(bytes) ^ damage);
    }
    return out;
  }
  Buffer r2t(uint16_t id, uint32_t offset, uint32_t length, uint16_t tag = 7) const {
    Buffer out(kHeaderRoomBytes);
    R2t request{
        .command_id = id, .transfer_tag = tag, .offset_bytes = offset, .length_bytes = length};
    out.resize(request.encode(out, format()));
    return out;
  }
};

Buffer flat(const SendBatch& batch) {
  Buffer out;
  for (uint32_t i = 0; i < batch.iov_count(); ++i) {
    const auto* from = static_cast<const std::byte*>(batch.iov()[i].iov_base);
    out.insert(out.end(), from, from + batch.iov()[i].iov_len);
  }
  EXPECT_EQ(out.size(), batch.bytes());
  return out;
}

struct Side {
  explicit Side(Digests digests = {.header = true, .data = true}, uint32_t h2c_max = 4096)
      : queue({.digests = digests, .depth = 8}), peer(digests, h2c_max) {
    queue.start();
    pump();
    EXPECT_TRUE(queue.receive(peer.ic_resp()).ok());
    EXPECT_TRUE(queue.ready());
    peer.got.clear();
  }
  void pump() {
    while (queue.fill(batch)) {
      peer.take(flat(batch));
      queue.sent(batch);
    }
  }
  uint16_t issue(HostCommand& command) {
    queue.submit(command);
    pump();
    return command.sqe.command_id;
  }
  // In pieces of every size up to the whole.
  Status feed(const Buffer& bytes, size_t piece) {
    for (size_t at = 0; at < bytes.size(); at += piece) {
      BB_TRY(queue.receive(ConstBytes(bytes).subspan(at, std::min(piece, bytes.size() - at))));
    }
    return {};
  }

  InitiatorQueue queue;
  Peer peer;
  SendBatch batch;
};

struct Command : HostCommand {
  Buffer memory;
  std::vector<iovec> pieces;
  Command(size_t length, bool to_target, std::vector<size_t> cuts = {}) : memory(length) {
    if (to_target) Prng(length).fill(memory);
    cuts.push_back(length);
    size_t at = 0;
    for (size_t cut : cuts) {
      pieces.push_back({.iov_base = memory.data() + at, .iov_len = cut - at});
      at = cut;
    }
    iov = pieces.data();
    iov_count = static_cast<uint32_t>(pieces.size());
    length_bytes = static_cast<uint32_t>(length);
    to_controller = to_target;
    sqe.opcode = static_cast<uint8_t>(to_target ? IoOpcode::kWrite : IoOpcode::kRead);
  }
};

Buffer join(std::initializer_list<Buffer> parts) {
  Buffer all;
  for (const Buffer& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

class InitiatorQueueTest : public testing::TestWithParam<Digests> {};
INSTANTIATE_TEST_SUITE_P(Digests, InitiatorQueueTest,
                         testing::Values(Digests{}, Digests{.header = true}, Digests{.data = true},
                                         Digests{.header = true, .data = true}),
                         [](const auto& info) {
                           return std::string(info.param.header ? "header" : "none") +
                                  (info.param.data ? "_data" : "");
                         });

TEST_P(InitiatorQueueTest, ReadsIntoOddPiecesAtEverySplit) {
  Buffer content(1536);
  Prng(3).fill(content);
  for (size_t piece = 1; piece < 1700; piece += piece < 40 ? 1 : 97) {
    Side side(GetParam());
    Command read(content.size(), false, {0, 1, 700, 700, 1535});
    uint16_t id = side.issue(read);
    ASSERT_EQ(side.peer.got.size(), 1u);
    EXPECT_EQ(Sqe::decode(capsule_sqe(side.peer.got[0].head)).command_id, id);
    Buffer wire = join({side.peer.data(id, 0, ConstBytes(content).first(1000), false),
                        side.peer.data(id, 1000, ConstBytes(content).subspan(1000), true),
                        side.peer.response(id)});
    ASSERT_TRUE(side.feed(wire, piece).ok());
    ASSERT_EQ(side.queue.take_completed(), &read);
    EXPECT_EQ(side.queue.take_completed(), nullptr);
    EXPECT_EQ(read.cqe.status, NvmeStatus::kSuccess);
    EXPECT_FALSE(read.digest_error);
    EXPECT_EQ(read.memory, content) << "pieces of " << piece;
    EXPECT_EQ(side.queue.outstanding(), 0u);
  }
}

TEST_P(InitiatorQueueTest, SmallWritesGoWithTheCommand) {
  Side side(GetParam());
  Command write(5000, true, {1, 2, 4097});
  uint16_t id = side.issue(write);
  ASSERT_EQ(side.peer.got.size(), 1u);
  EXPECT_EQ(side.peer.got[0].data, write.memory);
  EXPECT_TRUE(side.peer.got[0].digest_ok);
  Sqe sqe = Sqe::decode(capsule_sqe(side.peer.got[0].head));
  EXPECT_EQ(sqe.sgl.type, kSglInCapsule);
  EXPECT_EQ(sqe.sgl.length_bytes, 5000u);
  ASSERT_TRUE(side.queue.receive(side.peer.response(id)).ok());
  EXPECT_EQ(side.queue.take_completed(), &write);
  EXPECT_EQ(write.cqe.status, NvmeStatus::kSuccess);
}

TEST_P(InitiatorQueueTest, LargeWritesGoAsAsked) {
  Side side(GetParam());
  Command write(20000, true, {5, 4100, 4101, 15000});
  uint16_t id = side.issue(write);
  ASSERT_EQ(side.peer.got.size(), 1u);
  EXPECT_TRUE(side.peer.got[0].data.empty());
  ASSERT_TRUE(side.queue.receive(side.peer.r2t(id, 0, 12000, 3)).ok());
  side.pump();
  ASSERT_TRUE(side.queue.receive(side.peer.r2t(id, 12000, 8000, 4)).ok());
  side.pump();
  ASSERT_EQ(side.peer.got.size(), 6u);  // 4096 4096 3808, 4096 3904
  Buffer all;
  for (size_t i = 1; i < 6; ++i) {
    const Peer::Pdu& pdu = side.peer.got[i];
    DataHeader header = DataHeader::decode(pdu.head, pdu.header.flags);
    EXPECT_EQ(header.transfer_tag, i <= 3 ? 3 : 4);
    EXPECT_EQ(header.offset_bytes, all.size());
    EXPECT_EQ(header.last, i == 3 || i == 5);
    EXPECT_TRUE(pdu.digest_ok);
    all.insert(all.end(), pdu.data.begin(), pdu.data.end());
  }
  EXPECT_EQ(all, write.memory);
  ASSERT_TRUE(side.queue.receive(side.peer.response(id)).ok());
  EXPECT_EQ(side.queue.take_completed(), &write);
  EXPECT_EQ(write.cqe.status, NvmeStatus::kSuccess);
}

TEST(InitiatorQueue, TheSuccessFlagStandsForAResponse) {
  Side side;
  Command read(512, false);
  uint16_t id = side.issue(read);
  ASSERT_TRUE(
      side.queue.receive(side.peer.data(id, 0, Buffer(512, std::byte{4}), true, true)).ok());
  EXPECT_EQ(side.queue.take_completed(), &read);
  EXPECT_EQ(read.memory[511], std::byte{4});
}

TEST(InitiatorQueue, AnAnswerWaitsForTheSendThatStillUsesTheMemory) {
  Side side;
  Command write(4096, true);
  side.queue.submit(write);
  ASSERT_TRUE(side.queue.fill(side.batch));
  ASSERT_TRUE(side.queue.receive(side.peer.response(write.sqe.command_id)).ok());
  EXPECT_EQ(side.queue.take_completed(), nullptr) << "the memory is still being sent";
  side.queue.sent(side.batch);
  EXPECT_EQ(side.queue.take_completed(), &write);
}

TEST(InitiatorQueue, AnErrorEndsAWriteWhoseDataWasNotSentYet) {
  Side side;
  Command write(20000, true);
  uint16_t id = side.issue(write);
  ASSERT_TRUE(side.queue.receive(side.peer.r2t(id, 0, 20000)).ok());
  ASSERT_TRUE(side.queue.receive(side.peer.response(id, NvmeStatus::kWriteFault)).ok());
  EXPECT_EQ(side.queue.take_completed(), nullptr);
  side.pump();
  EXPECT_EQ(side.queue.take_completed(), &write);
  EXPECT_EQ(write.cqe.status, NvmeStatus::kWriteFault);
  EXPECT_EQ(side.peer.got.size(), 1u) << "data nobody waits for was sent";
}

TEST(InitiatorQueue, ASuccessWithoutAllDataIsAnError) {
  for (bool to_target : {false, true}) {
    Side side;
    Command command(20000, to_target);
    uint16_t id = side.issue(command);
    ASSERT_TRUE(side.queue.receive(side.peer.response(id)).ok());
    ASSERT_EQ(side.queue.take_completed(), &command);
    EXPECT_EQ(command.cqe.status, NvmeStatus::kDataTransferError);
  }
}

TEST(InitiatorQueue, DamagedDataIsMarked) {
  Side side;
  Command read(512, false);
  uint16_t id = side.issue(read);
  ASSERT_TRUE(side.queue.receive(side.peer.data(id, 0, Buffer(512), true, true, 1)).ok());
  ASSERT_EQ(side.queue.take_completed(), &read);
  EXPECT_TRUE(read.digest_error);
  EXPECT_EQ(side.queue.digest_errors(), 1u);
  // and the next one is fine
  id = side.issue(read);
  ASSERT_TRUE(side.queue.receive(side.peer.data(id, 0, Buffer(512), true, true)).ok());
  ASSERT_EQ(side.queue.take_completed(), &read);
  EXPECT_FALSE(read.digest_error);
}

TEST(InitiatorQueue, LongDataMayBeReceivedInPlace) {
  Side side;
  Buffer content(65536);
  Prng(9).fill(content);
  Command read(content.size(), false);
  uint16_t id = side.issue(read);
  Buffer wire = side.peer.data(id, 0, content, true, true);
  size_t head = wire.size() - content.size() - kDigestBytes;
  EXPECT_TRUE(side.queue.direct_target().empty());
  ASSERT_TRUE(side.queue.receive(ConstBytes(wire).first(head + 100)).ok());
  Bytes direct = side.queue.direct_target();
  ASSERT_EQ(direct.data(), read.memory.data() + 100);
  ASSERT_EQ(direct.size(), content.size() - 100);
  std::copy(content.begin() + 100, content.end(), direct.begin());
  ASSERT_TRUE(side.queue.receive(direct).ok());
  ASSERT_TRUE(side.queue.receive(ConstBytes(wire).last(kDigestBytes)).ok());
  EXPECT_EQ(side.queue.take_completed(), &read);
  EXPECT_FALSE(read.digest_error);
  EXPECT_EQ(read.memory, content);
}

TEST(InitiatorQueue, EndsWithEveryCommandOnce) {
  Side side;
  Command a(512, false);
  Command b(512, true);
  Command c(20000, true);
  side.issue(a);
  side.queue.submit(b);
  uint16_t id = side.issue(c);
  ASSERT_TRUE(side.queue.receive(side.peer.r2t(id, 0, 20000)).ok());
  std::vector<HostCommand*> lost;
  while (HostCommand* command = side.queue.take_lost()) lost.push_back(command);
  std::sort(lost.begin(), lost.end());
  std::vector<HostCommand*> all = {&a, &b, &c};
  std::sort(all.begin(), all.end());
  EXPECT_EQ(lost, all);
}

TEST(InitiatorQueue, RefusesATargetWithoutDigests) {
  InitiatorQueue queue({});
  SendBatch batch;
  queue.start();
  ASSERT_TRUE(queue.fill(batch));
  queue.sent(batch);
  Status status = queue.receive(Peer(Digests{.header = true}).ic_resp());
  EXPECT_EQ(status.to_string(),
            "the target agrees to header digests, asked for header and data; digest=off goes "
            "without [not_supported]");
}

struct IllegalCase {
  const char* name;
  std::function<Buffer(Side&, uint16_t read, uint16_t write)> bytes;
  FatalError fatal;
  std::string_view text;
};

class InitiatorIllegalTest : public testing::TestWithParam<IllegalCase> {};

TEST_P(InitiatorIllegalTest, EndsWithATerminationRequest) {
  Side side;
  Command read(8192, false);
  Command write(20000, true);
  uint16_t read_id = side.issue(read);
  uint16_t write_id = side.issue(write);
  side.peer.got.clear();
  Status status = side.queue.receive(GetParam().bytes(side, read_id, write_id));
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.text().find(GetParam().text), std::string::npos) << status.to_string();
  side.pump();
  ASSERT_EQ(side.peer.got.size(), 1u);
  EXPECT_EQ(side.peer.got[0].header.type, PduType::kH2cTermReq);
  EXPECT_EQ(TermReq::decode(side.peer.got[0].head).error, GetParam().fatal);
  EXPECT_EQ(side.queue.take_completed(), nullptr);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, InitiatorIllegalTest,
    testing::Values(
        IllegalCase{"second_ic_resp", [](Side& s, uint16_t, uint16_t) { return s.peer.ic_resp(); },
                    FatalError::kSequence, "second connection initialisation"},
        IllegalCase{"response_to_nothing",
                    [](Side& s, uint16_t, uint16_t) { return s.peer.response(0x7ff); },
                    FatalError::kInvalidHeaderField, "a response to no command of ours"},
        IllegalCase{"stale_generation",
                    [](Side& s, uint16_t r, uint16_t) {
                      return s.peer.response(static_cast<uint16_t>(r ^ 0x8000));
                    },
                    FatalError::kInvalidHeaderField, "a response to no command of ours"},
        IllegalCase{
            "data_for_a_write",
            [](Side& s, uint16_t, uint16_t w) { return s.peer.data(w, 0, Buffer(512), true); },
            FatalError::kInvalidHeaderField, "data of no command of ours"},
        IllegalCase{
            "data_beyond",
            [](Side& s, uint16_t r, uint16_t) { return s.peer.data(r, 0, Buffer(8196), true); },
            FatalError::kDataOutOfRange, "data out of its range"},
        IllegalCase{
            "data_out_of_order",
            [](Side& s, uint16_t r, uint16_t) { return s.peer.data(r, 4096, Buffer(4096), true); },
            FatalError::kDataOutOfRange, "data out of its range"},
        IllegalCase{"early_success",
                    [](Side& s, uint16_t r, uint16_t) {
                      return s.peer.data(r, 0, Buffer(512), true, true);
                    },
                    FatalError::kInvalidHeaderField, "a success before all data"},
        IllegalCase{"r2t_for_a_read",
                    [](Side& s, uint16_t r, uint16_t) { return s.peer.r2t(r, 0, 512); },
                    FatalError::kInvalidHeaderField, "a request for data of no command"},
        IllegalCase{"r2t_beyond",
                    [](Side& s, uint16_t, uint16_t w) { return s.peer.r2t(w, 0, 20004); },
                    FatalError::kDataOutOfRange, "an R2T out of its range"},
        IllegalCase{"r2t_of_nothing",
                    [](Side& s, uint16_t, uint16_t w) { return s.peer.r2t(w, 0, 0); },
                    FatalError::kDataOutOfRange, "an R2T out of its range"},
        IllegalCase{"two_r2ts",
                    [](Side& s, uint16_t, uint16_t w) {
                      return join({s.peer.r2t(w, 0, 4096), s.peer.r2t(w, 4096, 4096)});
                    },
                    FatalError::kLimitExceeded, "a second R2T"},
        IllegalCase{"answered_twice",
                    [](Side& s, uint16_t r, uint16_t) {
                      Buffer one = s.peer.response(r, NvmeStatus::kInternalError);
                      EXPECT_TRUE(s.queue.receive(one).ok());
                      EXPECT_NE(s.queue.take_completed(), nullptr);
                      return one;
                    },
                    FatalError::kInvalidHeaderField, "a response to no command of ours"},
        IllegalCase{"header_digest",
                    [](Side& s, uint16_t r, uint16_t) {
                      Buffer bytes = s.peer.response(r);
                      bytes[12] ^= std::byte{1};
                      return bytes;
                    },
                    FatalError::kHeaderDigest, "a wrong header digest"}),
    [](const auto& info) { return info.param.name; });

TEST(InitiatorQueue, SurvivesAnyBytes) {
  Prng prng(11);
  for (int round = 0; round < 2000; ++round) {
    Side side;
    Command read(8192, false);
    Command write(20000, true);
    uint16_t ids[2] = {side.issue(read), side.issue(write)};
    Buffer wire = join({side.peer.r2t(ids[1], 0, 20000),
                        side.peer.data(ids[0], 0, Buffer(8192), true), side.peer.response(ids[0])});
    wire[prng.below(wire.size())] ^= static_cast<std::byte>(1u << prng.below(8));
    Status status = side.feed(wire, 1 + prng.below(500));
    side.pump();
    // Whatever came: not one damaged byte passes as good.
    while (HostCommand* command = side.queue.take_completed()) {
      bool good = command->cqe.status == NvmeStatus::kSuccess && !command->digest_error;
      if (good && command == &read) EXPECT_TRUE(all_zero(read.memory));
    }
    while (side.queue.take_lost() != nullptr) {
    }
  }
}

}  // namespace
}  // namespace bb::io::nvme
