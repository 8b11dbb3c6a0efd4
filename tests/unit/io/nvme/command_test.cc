// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/command.h"

#include <gtest/gtest.h>

#include <vector>

#include "io/nvme/hex.h"
#include "io/nvme/identify.h"

namespace bb::io::nvme {
namespace {

using Buffer = std::vector<std::byte>;

TEST(Command, ReadSqeBytes) {
  Sqe read{.opcode = 0x02,
           .flags = kFlagSgl,
           .command_id = 0x0102,
           .nsid = 1,
           .sgl = transport_sgl(4096),
           .cdw10 = 0x11223344,
           .cdw11 = 0x55,
           .cdw12 = 7 | kForceUnitAccess};
  Buffer out(64);
  read.encode(out);
  EXPECT_EQ(hex(out),
            "02 40 02 01 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
            "00 00 00 00 00 00 00 00 00 10 00 00 00 00 00 5a "
            "44 33 22 11 55 00 00 00 07 00 00 40 00 00 00 00 00 00 00 00 00 00 00 00");
  Sqe back = Sqe::decode(out);
  EXPECT_EQ(back.first_block(), 0x5511223344u);
  EXPECT_EQ(back.block_count(), 8u);
  EXPECT_EQ(back.sgl.type, kSglTransportData);
  EXPECT_EQ(back.sgl.length_bytes, 4096u);
  Buffer again(64);
  back.encode(again);
  EXPECT_EQ(again, out);
}

TEST(Command, CqeBytes) {
  Cqe cqe{.result = 0x0807060504030201,
          .sq_head = 0x1112,
          .sq_id = 3,
          .command_id = 0x2122,
          .status = final_status(NvmeStatus::kLbaOutOfRange)};
  Buffer out(16);
  cqe.encode(out);
  EXPECT_EQ(hex(out), "01 02 03 04 05 06 07 08 12 11 03 00 22 21 00 81");
  EXPECT_EQ(Cqe::decode(out).status, final_status(NvmeStatus::kLbaOutOfRange));
  EXPECT_FALSE(may_retry(Cqe::decode(out).status));
}

TEST(Command, ConnectCapsule) {
  ConnectCommand connect{
      .queue_id = 2, .queue_size = 127, .attributes = kConnectNoFlowControl, .keep_alive_ms = 5000};
  Sqe sqe;
  connect.encode(sqe);
  Buffer out(64);
  sqe.encode(out);
  EXPECT_EQ(hex(ConstBytes(out).first(8)), "7f 00 00 00 01 00 00 00");
  EXPECT_EQ(hex(ConstBytes(out).subspan(40, 12)), "00 00 02 00 7f 00 04 00 88 13 00 00");
  ConnectCommand back = ConnectCommand::decode(Sqe::decode(out));
  EXPECT_EQ(back.queue_id, 2);
  EXPECT_EQ(back.queue_size, 127);
  EXPECT_EQ(back.attributes, kConnectNoFlowControl);
  EXPECT_EQ(back.keep_alive_ms, 5000u);
}

TEST(Command, ConnectDataRoundTripAndErrors) {
  ConnectData data{.host = {.host_nqn = "nqn.2026-11.io.blockbridge:host:a"},
                   .controller_id = 0xffff,
                   .subsystem_nqn = "nqn.2026-11.io.blockbridge:drive:b"};
  data.host.host_id.bytes[0] = std::byte{0xaa};
  Buffer out(1024);
  data.encode(out);
  EXPECT_EQ(out[0], std::byte{0xaa});
  EXPECT_EQ(hex(ConstBytes(out).subspan(16, 2)), "ff ff");
  EXPECT_EQ(as_text(ConstBytes(out).subspan(256, 3)), "nqn");
  EXPECT_EQ(as_text(ConstBytes(out).subspan(512, 3)), "nqn");
  auto back = ConnectData::decode(out);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->host, data.host);
  EXPECT_EQ(back->subsystem_nqn, data.subsystem_nqn);

  Buffer endless = out;
  std::fill(endless.begin() + 256, endless.begin() + 512, std::byte{'n'});
  EXPECT_EQ(ConnectData::decode(endless).code(), Code::k_invalid_argument);
  Buffer empty = out;
  empty[512] = std::byte{0};
  EXPECT_EQ(ConnectData::decode(empty).status().text(),
            "host NQN: an NQN of 0 bytes, allowed are 1 to 223");
  EXPECT_EQ(ConnectData::decode(ConstBytes(out).first(1023)).code(), Code::k_invalid_argument);
}

TEST(Command, CapabilitiesBytes) {
  Capabilities cap{.queue_entries_max = 128, .ready_timeout_ms = 7500};
  EXPECT_EQ(cap.encode(), 0x000000200f01007fu);
  EXPECT_EQ(Capabilities::decode(0x000000200f01007f).queue_entries_max, 128);
  EXPECT_EQ(Capabilities::decode(0x000000200f01007f).ready_timeout_ms, 7500u);
}

TEST(Status, EveryCodeHasAStatusThatMapsBackSensibly) {
  struct Row {
    Code code;
    bool reads;
    uint16_t status;
    Code back;
  };
  const Row rows[] = {
      {Code::k_ok, false, 0x0000, Code::k_ok},
      {Code::k_invalid_argument, false, 0x4002, Code::k_invalid_argument},
      {Code::k_permission_denied, false, 0x4020, Code::k_permission_denied},
      {Code::k_no_space, false, 0x4081, Code::k_no_space},
      {Code::k_unavailable, false, 0x0082, Code::k_unavailable},
      {Code::k_timed_out, true, 0x0082, Code::k_unavailable},
      {Code::k_fenced, false, 0x4083, Code::k_fenced},
      {Code::k_io_error, true, 0x0281, Code::k_io_error},
      {Code::k_io_error, false, 0x0280, Code::k_io_error},
      {Code::k_corrupt, true, 0x0282, Code::k_corrupt},
      {Code::k_internal, true, 0x0006, Code::k_internal},
  };
  for (const Row& row : rows) {
    NvmeStatus status = nvme_status_of(row.code, row.reads);
    EXPECT_EQ(static_cast<uint16_t>(status), row.status) << code_name(row.code);
    EXPECT_EQ(code_of(status), row.back) << code_name(row.code);
  }
  EXPECT_EQ(code_of(static_cast<NvmeStatus>(0x370)), Code::k_unavailable);
  EXPECT_EQ(nvme_status_text(final_status(NvmeStatus::kLbaOutOfRange)), "LBA out of range (0x080)");
}

TEST(Identify, ControllerAtTheOffsetsOfTheSpecification) {
  ControllerInfo info{.serial = "S1",
                      .model = "blockbridge",
                      .firmware = "0.1",
                      .subsystem_nqn = "nqn.x",
                      .controller_id = 0x0102,
                      .transfer_max_bytes = 1 << 20,
                      .keep_alive_granularity_ms = 1000,
                      .command_max = 128,
                      .namespace_max = 1,
                      .optional_commands = 0x0d,
                      .volatile_cache = true,
                      .capsule_bytes = 64 + 8192};
  Buffer out(4096);
  info.encode(out);
  EXPECT_EQ(as_text(ConstBytes(out).subspan(4, 20)), "S1                  ");
  EXPECT_EQ(out[77], std::byte{8});                                             // MDTS: 2^8 pages
  EXPECT_EQ(hex(ConstBytes(out).subspan(78, 6)), "02 01 00 00 02 00");          // CNTLID, VER
  EXPECT_EQ(out[111], std::byte{1});                                            // CNTRLTYPE
  EXPECT_EQ(hex(ConstBytes(out).subspan(320, 2)), "0a 00");                     // KAS
  EXPECT_EQ(hex(ConstBytes(out).subspan(512, 4)), "66 44 80 00");               // SQES CQES MAXCMD
  EXPECT_EQ(hex(ConstBytes(out).subspan(516, 6)), "01 00 00 00 0d 00");         // NN ONCS
  EXPECT_EQ(out[525], std::byte{7});                                            // VWC
  EXPECT_EQ(hex(ConstBytes(out).subspan(536, 4)), "01 00 30 00");               // SGLS
  EXPECT_EQ(hex(ConstBytes(out).subspan(1792, 8)), "04 02 00 00 01 00 00 00");  // IOCCSZ IORCSZ
  auto back = ControllerInfo::decode(out);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->serial, "S1");
  EXPECT_EQ(back->model, "blockbridge");
  EXPECT_EQ(back->subsystem_nqn, "nqn.x");
  EXPECT_EQ(back->transfer_max_bytes, 1u << 20);
  EXPECT_EQ(back->capsule_bytes, 8256u);
  EXPECT_EQ(back->keep_alive_granularity_ms, 1000);
  EXPECT_TRUE(back->volatile_cache);
  store_le<uint32_t>(out.data() + 1792, 3);
  EXPECT_EQ(ControllerInfo::decode(out).code(), Code::k_io_error);
}

TEST(Identify, NamespaceAndDescriptors) {
  NamespaceInfo info{.block_count = 2048, .block_bytes = 512, .physical_block_bytes = 4096};
  for (size_t i = 0; i < 16; ++i) info.uuid.bytes[i] = static_cast<std::byte>(i + 1);
  Buffer out(4096);
  info.encode(out);
  EXPECT_EQ(hex(ConstBytes(out).first(8)), "00 08 00 00 00 00 00 00");
  EXPECT_EQ(hex(ConstBytes(out).subspan(64, 2)), "07 00");         // NPWG
  EXPECT_EQ(hex(ConstBytes(out).subspan(128, 4)), "00 00 09 00");  // LBAF 0
  auto back = NamespaceInfo::decode(out);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->block_count, 2048u);
  EXPECT_EQ(back->physical_block_bytes, 4096u);
  EXPECT_EQ(back->uuid, info.uuid);
  out[130] = std::byte{13};
  EXPECT_EQ(NamespaceInfo::decode(out).code(), Code::k_not_supported);
  out[130] = std::byte{9};
  std::fill(out.begin(), out.begin() + 8, std::byte{0xff});
  EXPECT_EQ(NamespaceInfo::decode(out).code(), Code::k_not_supported);

  Buffer list(4096);
  NamespaceDescriptors{.uuid = info.uuid}.encode(list);
  EXPECT_EQ(hex(ConstBytes(list).first(4)), "02 10 00 00");
  EXPECT_EQ(hex(ConstBytes(list).subspan(20, 4)), "03 10 00 00");
  EXPECT_EQ(hex(ConstBytes(list).subspan(40, 6)), "04 01 00 00 00 00");
  EXPECT_EQ(NamespaceDescriptors::decode(list).uuid, info.uuid);
  Buffer broken(6, std::byte{0xff});
  EXPECT_TRUE(NamespaceDescriptors::decode(broken).uuid.is_nil());
}

TEST(Identify, NamespaceList) {
  Buffer out(4096);
  encode_namespace_list(out, {1, 3}, 0);
  EXPECT_EQ(hex(ConstBytes(out).first(12)), "01 00 00 00 03 00 00 00 00 00 00 00");
  EXPECT_EQ(decode_namespace_list(out), (std::vector<uint32_t>{1, 3}));
  encode_namespace_list(out, {1, 3}, 1);
  EXPECT_EQ(decode_namespace_list(out), (std::vector<uint32_t>{3}));
}

}  // namespace
}  // namespace bb::io::nvme
