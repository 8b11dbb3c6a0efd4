// SPDX-License-Identifier: Apache-2.0
#include "io/ublk/mapping.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "io/ublk/unflushed.h"

namespace bb::io::ublk {
namespace {

DeviceInfo plain() {
  return {.uri = "mem:64M",
          .size_bytes = 64u << 20,
          .block_size_bytes = 512,
          .physical_block_bytes = 4096,
          .transfer_max_bytes = 1u << 20};
}

Parameters made(const DeviceInfo& info, uint32_t io_max_bytes = 512u << 10) {
  auto parameters = parameters_of(info, io_max_bytes);
  EXPECT_TRUE(parameters.ok()) << parameters.status().to_string();
  return *parameters;
}

// The numbers of linux/ublk_cmd.h, as strace shows them on Linux 6.12.
TEST(UblkAbi, Opcodes) {
  EXPECT_EQ(static_cast<uint32_t>(ControlOp::kAddDevice), 0xc0207504u);
  EXPECT_EQ(static_cast<uint32_t>(ControlOp::kGetParameters), 0x80207509u);
  EXPECT_EQ(static_cast<uint32_t>(ControlOp::kEndRecovery), 0xc0207511u);
  EXPECT_EQ(static_cast<uint32_t>(ControlOp::kGetDeviceInfo), 0x80207512u);
  EXPECT_EQ(static_cast<uint32_t>(IoCommandOp::kFetch), 0xc0107520u);
  EXPECT_EQ(static_cast<uint32_t>(IoCommandOp::kCommitAndFetch), 0xc0107521u);
}

TEST(UblkMapping, SizesAndBlocks) {
  Parameters parameters = made(plain());
  EXPECT_EQ(parameters.length_bytes, 60u);
  EXPECT_EQ(parameters.types, kHasBasic | kHasDiscard);
  EXPECT_EQ(parameters.basic.size_sectors, 131072u);
  EXPECT_EQ(parameters.basic.logical_block_shift, 9);
  EXPECT_EQ(parameters.basic.physical_block_shift, 12);
  EXPECT_EQ(parameters.basic.io_min_shift, 12);
  EXPECT_EQ(parameters.basic.io_max_sectors, 1024u);
  DeviceInfo odd = plain();
  odd.block_size_bytes = 4096;
  odd.physical_block_bytes = 512;  // less than a block, or no power of two: the block it is
  EXPECT_EQ(made(odd).basic.physical_block_shift, 12);
  odd.physical_block_bytes = 12288;
  EXPECT_EQ(made(odd).basic.physical_block_shift, 12);
  for (uint32_t bytes : {0u, 256u, 520u, 8192u}) {
    odd.block_size_bytes = bytes;
    EXPECT_EQ(parameters_of(odd, 4096).code(), Code::k_invalid_argument) << bytes;
  }
}

TEST(UblkMapping, OneRequestFitsTheDevice) {
  struct Row {
    uint32_t transfer_max, limit, expected;
  };
  for (Row row : {Row{1u << 20, 512u << 10, 512u << 10},
                  {128u << 10, 512u << 10, 128u << 10},
                  {130'000, 512u << 10, 126'976},
                  {512, 512u << 10, 4096}}) {
    DeviceInfo info = plain();
    info.transfer_max_bytes = row.transfer_max;
    EXPECT_EQ(io_max_bytes_of(info, row.limit), row.expected) << row.transfer_max;
  }
  EXPECT_EQ(parameters_of(plain(), 2u << 20).code(), Code::k_invalid_argument);
}

TEST(UblkMapping, CacheAndAbilities) {
  struct Row {
    bool read_only, cache, discard;
    uint32_t attributes, discard_max, zeroes_max;
    uint16_t segments;
  };
  constexpr uint32_t kRange = 524288;  // 256 MiB
  for (Row row : {Row{false, false, false, 0, 0, kRange, 0},
                  {false, true, true, kVolatileCache | kForceUnitAccess, kRange, kRange, 1},
                  {true, true, true, kReadOnly | kVolatileCache | kForceUnitAccess, 0, 0, 0},
                  {true, false, false, kReadOnly, 0, 0, 0}}) {
    DeviceInfo info = plain();
    info.read_only = row.read_only;
    info.volatile_cache = row.cache;
    info.discard = row.discard;
    Parameters parameters = made(info);
    EXPECT_EQ(parameters.basic.attributes, row.attributes);
    EXPECT_EQ(parameters.discard.discard_max_sectors, row.discard_max);
    EXPECT_EQ(parameters.discard.write_zeroes_max_sectors, row.zeroes_max);
    EXPECT_EQ(parameters.discard.segments_max, row.segments);
    EXPECT_EQ(parameters.discard.granularity_bytes, 4096u);  // 0 is refused
  }
}

TEST(UblkMapping, WhoMayTakeOver) {
  DeviceInfo info = plain();
  info.discard = info.volatile_cache = true;
  Parameters before = made(info, 128u << 10);
  EXPECT_TRUE(check_takeover(before, made(info)).ok());  // larger requests than it was told of
  auto refused = [&](auto change, std::string_view text) {
    DeviceInfo now = info;
    change(now);
    Status status = check_takeover(before, made(now, 64u << 10 | 4096));
    EXPECT_EQ(status.code(), Code::k_bad_state);
    EXPECT_NE(status.text().find(text), std::string::npos) << status.to_string();
  };
  refused([](DeviceInfo& now) { now.size_bytes -= 4096; }, "sectors: 131072");
  refused([](DeviceInfo& now) { now.block_size_bytes = 4096; }, "blocks of bytes: 512");
  refused([](DeviceInfo&) {}, "sectors in one request: 256");
  info.transfer_max_bytes = 1u << 20;
  before = made(info, 4096);
  refused([](DeviceInfo& now) { now.volatile_cache = false; }, "attributes 12");
  refused([](DeviceInfo& now) { now.discard = false; }, "sectors in one discard");
}

TEST(UblkMapping, Identity) {
  uint64_t flags = server_flags_of("file:/a");
  EXPECT_TRUE(is_ours(flags));
  EXPECT_EQ(flags, server_flags_of("file:/a"));
  EXPECT_NE(flags, server_flags_of("file:/b"));
  EXPECT_FALSE(is_ours(0));
  EXPECT_FALSE(is_ours(UINT64_MAX));
}

TEST(UblkMapping, Requests) {
  struct Row {
    uint32_t op_flags;
    IoOp op;
    bool fua, may_discard;
  };
  for (Row row : {Row{0, IoOp::kRead, false, false},
                  {1, IoOp::kWrite, false, false},
                  {1 | kRequestFua, IoOp::kWrite, true, false},
                  {3, IoOp::kDiscard, false, false},
                  {3 | kRequestFua, IoOp::kDiscard, false, false},
                  {5, IoOp::kWriteZeroes, false, true},
                  {5 | kRequestNoUnmap, IoOp::kWriteZeroes, false, false},
                  {5 | kRequestFua, IoOp::kWriteZeroes, true, true}}) {
    auto request = request_of({.op_flags = row.op_flags, .sector_count = 16, .first_sector = 8});
    ASSERT_TRUE(request.has_value()) << row.op_flags;
    EXPECT_EQ(request->op, row.op) << row.op_flags;
    EXPECT_EQ(request->fua, row.fua) << row.op_flags;
    EXPECT_EQ(request->may_discard, row.may_discard) << row.op_flags;
    EXPECT_EQ(request->offset_bytes, 4096u);
    EXPECT_EQ(request->length_bytes, 8192u);
  }
  auto flush = request_of({.op_flags = 2, .sector_count = 99, .first_sector = 99});
  ASSERT_TRUE(flush.has_value());
  EXPECT_EQ(flush->op, IoOp::kFlush);
  EXPECT_EQ(flush->length_bytes, 0u);
  for (uint32_t unknown : {4u, 6u, 18u, 255u}) {
    EXPECT_FALSE(request_of({.op_flags = unknown}).has_value()) << unknown;
  }
}

TEST(UblkMapping, Results) {
  Request read{.op = IoOp::kRead, .length_bytes = 8192};
  Request write{.op = IoOp::kWrite, .length_bytes = 4096};
  Request flush{.op = IoOp::kFlush};
  EXPECT_EQ(result_of(read, Code::k_ok), 8192);
  EXPECT_EQ(result_of(write, Code::k_ok), 4096);
  EXPECT_EQ(result_of(flush, Code::k_ok), 0);
  EXPECT_EQ(result_of(read, Code::k_io_error), -ENODATA);
  EXPECT_EQ(result_of(write, Code::k_io_error), -EIO);
  EXPECT_EQ(result_of(write, Code::k_no_space), -ENOSPC);
  EXPECT_EQ(result_of(flush, Code::k_unavailable), -ENOLINK);
  EXPECT_EQ(result_of(flush, Code::k_fenced), -EBADE);
  for (int code = 1; code <= static_cast<int>(Code::k_internal); ++code) {
    EXPECT_LT(result_of(write, static_cast<Code>(code)), 0) << code;
  }
}

// A flush tells of writes that a reconnect may have lost: once, and only if there were any.
TEST(UblkUnflushed, LossIsToldOnce) {
  Unflushed unflushed;
  unflushed.on_written(1);
  unflushed.on_flush_begins();
  EXPECT_FALSE(unflushed.on_flush_ends(true, 1));
  unflushed.on_flush_begins();
  EXPECT_FALSE(unflushed.on_flush_ends(true, 2));  // nothing was unflushed when it came back
  unflushed.on_written(2);
  unflushed.on_flush_begins();
  EXPECT_TRUE(unflushed.on_flush_ends(true, 3));
  unflushed.on_flush_begins();
  EXPECT_FALSE(unflushed.on_flush_ends(true, 3));
}

TEST(UblkUnflushed, AFailedFlushCoversNothing) {
  Unflushed unflushed;
  unflushed.on_written(1);
  unflushed.on_flush_begins();
  EXPECT_FALSE(unflushed.on_flush_ends(false, 1));
  unflushed.on_written(2);
  unflushed.on_flush_begins();
  EXPECT_TRUE(unflushed.on_flush_ends(true, 2));  // the write of incarnation 1 was never flushed
}

TEST(UblkUnflushed, AWriteDuringAFlushBelongsToTheNext) {
  Unflushed unflushed;
  unflushed.on_flush_begins();
  unflushed.on_written(1);
  EXPECT_FALSE(unflushed.on_flush_ends(true, 2));
  unflushed.on_flush_begins();
  EXPECT_TRUE(unflushed.on_flush_ends(true, 2));
}

}  // namespace
}  // namespace bb::io::ublk
