// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/passthrough.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "io/nvme/command.h"
#include "io/nvme/health.h"
#include "io/nvme/local_open.h"

namespace bb::io::nvme {
namespace {

constexpr uint16_t kAll = kOncsDatasetManagement | kOncsWriteZeroes;
constexpr QueueLimits kRoomy{.io_max_bytes = 8u << 20,
                             .segments_max = 512,
                             .discard_max_bytes = uint64_t{2} << 40,
                             .write_zeroes_max_bytes = 8u << 20};
constexpr NamespaceInfo kBlocks512{.block_count = 1u << 20, .block_bytes = 512};

TEST(LocalNamespace, TheLeastOfAllLimitsCounts) {
  struct Row {
    uint32_t block;
    uint8_t mdts;
    uint64_t io_max;
    uint32_t segments;
    uint32_t expected;
  };
  for (Row row : {Row{512, 0, 8u << 20, 512, 255u * 4096},
                  {512, 7, 8u << 20, 512, 512u << 10},  // MDTS in pages of 4096
                  {512, 1, 8u << 20, 512, 8192},
                  {512, 0, 128u << 10, 512, 128u << 10},
                  {512, 0, 8u << 20, 127, 126u * 4096},      // a page more than it fills
                  {4096, 0, 130'000, 127, 126'976},          // whole blocks
                  {512, 20, 8u << 20, 512, 255u * 4096}}) {  // an absurd MDTS is none
    NamespaceInfo info{.block_count = 100, .block_bytes = row.block};
    QueueLimits limits{.io_max_bytes = row.io_max, .segments_max = row.segments};
    LocalNamespace local = local_namespace_of(1, info, row.mdts, kAll, limits);
    EXPECT_EQ(local.transfer_max_bytes, row.expected) << row.block << " " << int{row.mdts};
  }
}

TEST(LocalNamespace, AbilitiesNeedDriveAndKernel) {
  LocalNamespace both = local_namespace_of(3, kBlocks512, 0, kAll, kRoomy);
  EXPECT_EQ(both.nsid, 3u);
  EXPECT_EQ(both.discard_max_bytes, uint64_t{UINT32_MAX} * 512);
  EXPECT_EQ(both.write_zeroes_max_bytes, 8u << 20);
  LocalNamespace drive = local_namespace_of(3, kBlocks512, 0, kAll, kLeastLimits);
  EXPECT_EQ(drive.discard_max_bytes, 0u);
  EXPECT_EQ(drive.write_zeroes_max_bytes, 0u);
  LocalNamespace kernel = local_namespace_of(3, kBlocks512, 0, 0, kRoomy);
  EXPECT_EQ(kernel.discard_max_bytes, 0u);
  EXPECT_EQ(kernel.write_zeroes_max_bytes, 0u);
}

TEST(LocalStep, Commands) {
  LocalNamespace target = local_namespace_of(5, kBlocks512, 0, kAll, kRoomy);
  constexpr uint64_t kAt = (uint64_t{1} << 41) + 1024;  // block 2^32 + 2
  struct Row {
    IoOp op;
    bool fua, may_discard;
    uint8_t opcode;
    uint32_t cdw12;
    LocalData data;
  };
  for (Row row :
       {Row{IoOp::kRead, true, false, 0x02, 7, LocalData::kRequest},
        {IoOp::kWrite, false, false, 0x01, 7, LocalData::kRequest},
        {IoOp::kWrite, true, false, 0x01, 7 | 1u << 30, LocalData::kRequest},
        {IoOp::kWriteZeroes, false, false, 0x08, 7, LocalData::kNone},
        {IoOp::kWriteZeroes, true, true, 0x08, 7 | 1u << 30 | 1u << 25, LocalData::kNone}}) {
    LocalStep step = next_step(target,
                               {.op = row.op,
                                .fua = row.fua,
                                .may_discard = row.may_discard,
                                .offset_bytes = kAt,
                                .length_bytes = 4096},
                               131072);
    EXPECT_EQ(step.command.opcode, row.opcode);
    EXPECT_EQ(step.command.nsid, 5u);
    EXPECT_EQ(step.command.cdw10, 2u);
    EXPECT_EQ(step.command.cdw11, 1u);
    EXPECT_EQ(step.command.cdw12, row.cdw12);
    EXPECT_EQ(step.step_bytes, 4096u);
    EXPECT_EQ(step.data, row.data);
  }
  LocalStep flush = next_step(target, {.op = IoOp::kFlush}, 0);
  EXPECT_EQ(flush.command.opcode, 0x00);
  EXPECT_EQ(flush.command.nsid, 5u);
  EXPECT_EQ(flush.data, LocalData::kNone);
}

TEST(LocalStep, LongRangesGoInSteps) {
  LocalNamespace target = local_namespace_of(1, kBlocks512, 0, kAll, kRoomy);
  LocalRequest zeroes{
      .op = IoOp::kWriteZeroes, .offset_bytes = 512, .length_bytes = (8u << 20) + 512};
  EXPECT_EQ(next_step(target, zeroes, 131072).step_bytes, 8u << 20);
  zeroes.done_bytes = 8u << 20;
  LocalStep last = next_step(target, zeroes, 131072);
  EXPECT_EQ(last.step_bytes, 512u);
  EXPECT_EQ(last.command.cdw10, (8u << 20) / 512 + 1);
  EXPECT_EQ(last.command.cdw12, 0u);
  target.write_zeroes_max_bytes = 0;  // then they are written
  zeroes.done_bytes = 0;
  LocalStep written = next_step(target, zeroes, 131072);
  EXPECT_EQ(written.command.opcode, 0x01);
  EXPECT_EQ(written.step_bytes, 131072u);
  EXPECT_EQ(written.data, LocalData::kZeroes);
}

TEST(LocalStep, Discard) {
  LocalNamespace target = local_namespace_of(1, kBlocks512, 0, kAll, kRoomy);
  target.discard_max_bytes = 1u << 20;
  LocalRequest discard{.op = IoOp::kDiscard, .offset_bytes = 4096, .length_bytes = 3u << 20};
  LocalStep step = next_step(target, discard, 0);
  EXPECT_EQ(step.command.opcode, 0x09);
  EXPECT_EQ(step.command.cdw10, 0u);
  EXPECT_EQ(step.command.cdw11, 4u);
  EXPECT_EQ(step.step_bytes, 1u << 20);
  discard.done_bytes = 1u << 20;
  std::byte range[kDsmRangeBytes];
  encode_range(range, target, discard, 1u << 20);
  EXPECT_EQ(load_le<uint32_t>(range), 0u);
  EXPECT_EQ(load_le<uint32_t>(range + 4), 2048u);
  EXPECT_EQ(load_le<uint64_t>(range + 8), 8u + 2048u);
}

TEST(LocalOptions, Uris) {
  auto parsed = [](std::string_view text) { return parse_local_options(*Uri::parse(text)); };
  auto plain = parsed("nvme:/dev/ng0n1");
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();
  EXPECT_EQ(plain->path, "/dev/ng0n1");
  EXPECT_EQ(plain->queue_depth, 128u);
  EXPECT_TRUE(plain->lock);
  auto all = parsed("nvme:/dev/ng1n2?queue_depth=7&io_timeout=2s&read_only=1&lock=0");
  ASSERT_TRUE(all.ok()) << all.status().to_string();
  EXPECT_EQ(all->queue_depth, 7u);
  EXPECT_EQ(all->io_timeout_ns, 2'000'000'000u);
  EXPECT_TRUE(all->read_only);
  EXPECT_FALSE(all->lock);
  for (std::string_view wrong : {"nvme:ng0n1", "nvme:/dev/ng0n1?queue_depth=0",
                                 "nvme:/dev/ng0n1?io_timeout=0", "nvme:/dev/ng0n1?depth=3"}) {
    EXPECT_EQ(parsed(wrong).code(), Code::k_invalid_argument) << wrong;
  }
  EXPECT_EQ(block_path_of("/dev/ng0n1"), "/dev/nvme0n1");
  EXPECT_EQ(block_path_of("/dev/sda"), "");
}

TEST(Passthrough, WhatAResetCutOffGoesAgain) {
  auto answer = [](NvmeStatus status) { return static_cast<int32_t>(status); };
  for (bool changes_data : {false, true}) {
    for (int32_t result : {-EINTR, -EAGAIN, -EFAULT, answer(NvmeStatus::kAbortedQueueDeleted),
                           answer(NvmeStatus::kHostPathError)}) {
      EXPECT_TRUE(was_cut_off(result, changes_data)) << result;
    }
    for (int32_t result : {0, -EIO, -ENODEV, answer(NvmeStatus::kWriteFault),
                           answer(NvmeStatus::kAbortRequested), answer(NvmeStatus::kLbaOutOfRange),
                           answer(final_status(NvmeStatus::kAbortedQueueDeleted))}) {
      EXPECT_FALSE(was_cut_off(result, changes_data)) << result;
    }
  }
}

TEST(Health, Decode) {
  std::vector<std::byte> log(kHealthLogBytes);
  log[0] = std::byte{0x05};
  store_le<uint16_t>(log.data() + 1, 323);
  log[3] = std::byte{97};
  log[4] = std::byte{10};
  log[5] = std::byte{140};
  store_le<uint64_t>(log.data() + 32, 2);
  store_le<uint64_t>(log.data() + 48, UINT64_MAX);  // in bytes more than 64 bits hold
  store_le<uint64_t>(log.data() + 128, 4321);
  store_le<uint64_t>(log.data() + 160 + 8, 1);  // above 2^64
  auto health = Health::decode(log);
  ASSERT_TRUE(health.ok());
  EXPECT_EQ(health->temperature_celsius, 50);
  EXPECT_EQ(health->spare_percent, 97u);
  EXPECT_EQ(health->spare_threshold_percent, 10u);
  EXPECT_EQ(health->wear_percent, 140u);
  EXPECT_EQ(health->read_bytes, 1'024'000u);
  EXPECT_EQ(health->written_bytes, UINT64_MAX);
  EXPECT_EQ(health->power_on_hours, 4321u);
  EXPECT_EQ(health->media_errors, UINT64_MAX);
  EXPECT_EQ(critical_warnings(health->critical_warning),
            (std::vector<std::string_view>{"spare below threshold", "reliability degraded"}));
  EXPECT_EQ(critical_warnings(0x80), (std::vector<std::string_view>{"unknown warning"}));
  store_le<uint16_t>(log.data() + 1, 0);
  EXPECT_FALSE(Health::decode(log)->temperature_celsius.has_value());
  EXPECT_FALSE(Health::decode(ConstBytes(log).first(511)).ok());
}

TEST(Health, Formats) {
  std::vector<std::byte> identify(4096);
  identify[25] = std::byte{1};  // two, 0's based
  identify[26] = std::byte{1};
  identify[130] = std::byte{9};
  store_le<uint16_t>(identify.data() + 132, 8);
  identify[134] = std::byte{12};
  identify[135] = std::byte{2};
  auto formats = lba_formats(identify);
  ASSERT_TRUE(formats.ok());
  ASSERT_EQ(formats->size(), 2u);
  EXPECT_EQ((*formats)[0].data_bytes, 512u);
  EXPECT_FALSE((*formats)[0].in_use);
  EXPECT_EQ((*formats)[1].data_bytes, 4096u);
  EXPECT_EQ((*formats)[1].metadata_bytes, 8u);
  EXPECT_EQ((*formats)[1].performance, 2);
  EXPECT_TRUE((*formats)[1].in_use);
  identify[25] = std::byte{255};  // more than there is room for
  EXPECT_EQ(lba_formats(identify)->size(), 64u);
}

TEST(Health, WhatIsMadeUpIsCalledSo) {
  EXPECT_TRUE(is_simulated(0x1b36, "QEMU NVMe Ctrl"));
  EXPECT_TRUE(is_simulated(0, "Blockbridge disk"));
  EXPECT_TRUE(is_simulated(0, "Linux"));
  EXPECT_FALSE(is_simulated(0x144d, "SAMSUNG MZQL2960HCJR"));
}

}  // namespace
}  // namespace bb::io::nvme
