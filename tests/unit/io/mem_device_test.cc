// SPDX-License-Identifier: Apache-2.0
// Memory that is lent: it stays as it is, and whoever would change it waits.
#include <gtest/gtest.h>

#include "io/device_uri.h"
#include "io/tcp.h"

namespace bb::io {
namespace {

constexpr uint64_t kBlock = 4096;

struct Request final : IoRequest {
  bool ended = false;
  Status status;
  std::vector<std::byte> bytes;
  iovec one{};

  Request(IoOp what, uint64_t first_block, uint64_t blocks) {
    op = what;
    offset_bytes = first_block * kBlock;
    length_bytes = blocks * kBlock;
    done = [](IoRequest* request, Status result) {
      auto* self = static_cast<Request*>(request);
      EXPECT_FALSE(self->ended);
      self->ended = true;
      self->status = std::move(result);
    };
  }
  Request& carrying(std::byte fill) {
    bytes.assign(length_bytes, fill);
    one = {.iov_base = bytes.data(), .iov_len = bytes.size()};
    iov = &one;
    iov_count = 1;
    return *this;
  }
  Request& borrowing() {
    may_lend = true;
    return *this;
  }
};

struct LentMemory : testing::Test {
  std::unique_ptr<Reactor> reactor = std::move(Reactor::create()).value();
  std::unique_ptr<Network> network = make_tcp_network(*reactor, nullptr);
  Context context{.loop = *reactor, .network = *network, .reactor = reactor.get()};
  std::unique_ptr<Device> device = open("mem:1M");

  std::unique_ptr<Device> open(const std::string& uri) {
    return std::move(reactor->block_on(open_device(context, uri))).value();
  }
  void submit(Request& request, bool ends_at_once) {
    device->submit(request);
    EXPECT_EQ(request.ended, ends_at_once);
    if (request.ended) EXPECT_TRUE(request.status.ok()) << request.status.to_string();
  }
  ~LentMemory() override { EXPECT_TRUE(reactor->block_on(device->close()).ok()); }
};

std::byte first_of(ConstBytes bytes) { return bytes.front(); }

TEST_F(LentMemory, IsTheDevicesOwn) {
  Request write(IoOp::kWrite, 2, 2);
  submit(write.carrying(std::byte{7}), true);
  Request read(IoOp::kRead, 2, 1);
  Request again(IoOp::kRead, 2, 1);
  submit(read.borrowing(), true);
  submit(again.borrowing(), true);  // as many as like
  EXPECT_EQ(read.lent.size(), kBlock);
  EXPECT_EQ(read.lent.data(), again.lent.data());
  EXPECT_EQ(first_of(read.lent), std::byte{7});
  device->give_back(again);
  device->give_back(read);
}

TEST_F(LentMemory, WhateverWouldChangeItWaits) {
  for (IoOp op : {IoOp::kWrite, IoOp::kWriteZeroes, IoOp::kDiscard}) {
    SCOPED_TRACE(io_op_name(op));
    Request before(IoOp::kWrite, 0, 8);
    submit(before.carrying(std::byte{7}), true);
    Request read(IoOp::kRead, 2, 2);
    submit(read.borrowing(), true);
    Request change(op, 3, 4);
    if (op == IoOp::kWrite) change.carrying(std::byte{9});
    submit(change, false);
    EXPECT_EQ(read.lent.back(), std::byte{7});
    Request beside(IoOp::kWrite, 0, 2);
    submit(beside.carrying(std::byte{8}), true);
    Request copied(IoOp::kRead, 3, 1);
    submit(copied.carrying(std::byte{0}), true);
    EXPECT_EQ(first_of(copied.bytes), std::byte{7});
    device->give_back(read);
    EXPECT_TRUE(change.ended && change.status.ok());
    Request after(IoOp::kRead, 3, 1);
    submit(after.carrying(std::byte{1}), true);
    EXPECT_EQ(first_of(after.bytes), op == IoOp::kWrite ? std::byte{9} : std::byte{0});
  }
}

// Or reads that follow each other would keep a write waiting for ever.
TEST_F(LentMemory, WhoeverComesBehindAWaitingWriteSeesIt) {
  Request first(IoOp::kRead, 0, 1);
  submit(first.borrowing(), true);
  Request write(IoOp::kWrite, 0, 2);
  submit(write.carrying(std::byte{5}), false);
  Request second(IoOp::kRead, 1, 1);
  submit(second.borrowing(), false);
  Request third(IoOp::kRead, 2, 1);
  submit(third.borrowing(), true);
  device->give_back(first);
  EXPECT_TRUE(write.ended && second.ended);
  EXPECT_EQ(first_of(second.lent), std::byte{5});
  device->give_back(second);
  device->give_back(third);
}

TEST_F(LentMemory, OnlyReadsOfDevicesThatLend) {
  Request write(IoOp::kWrite, 0, 1);
  device->submit(write.carrying(std::byte{1}).borrowing());
  EXPECT_EQ(write.status.code(), Code::k_not_supported);
  std::unique_ptr<Device> other = open("null:1M");
  Request read(IoOp::kRead, 0, 1);
  other->submit(read.borrowing());
  EXPECT_EQ(read.status.code(), Code::k_not_supported);
  EXPECT_TRUE(reactor->block_on(other->close()).ok());
}

}  // namespace
}  // namespace bb::io
