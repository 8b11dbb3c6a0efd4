// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/passthrough.h"

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "io/nvme/command.h"
#include "io/nvme/retry_rule.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kPageBytes = 4096;  // CAP.MPSMIN is at least this: never too much
// Pages of one bio: what does not fit goes in two, which the kernel refuses now and then.
constexpr uint32_t kSegmentsMax = 256;
constexpr uint64_t kBlocksMax = 1u << 16;  // NLB of Read, Write, Write Zeroes
constexpr uint64_t kRangeBlocksMax = UINT32_MAX;

uint64_t whole_blocks(uint64_t bytes, uint64_t block) { return bytes / block * block; }

}  // namespace

LocalNamespace local_namespace_of(uint32_t nsid, const NamespaceInfo& info, uint8_t mdts,
                                  uint16_t optional_commands, const QueueLimits& limits) {
  LocalNamespace local{.nsid = nsid, .block_bytes = info.block_bytes};
  uint64_t block = info.block_bytes;
  // Memory that does not begin at a page touches one page more than it fills.
  uint32_t segments = std::clamp(limits.segments_max, 2u, kSegmentsMax);
  uint64_t in_segments = (segments - 1) * kPageBytes;
  uint64_t transfer = std::min(kBlocksMax * block, in_segments);
  if (limits.io_max_bytes >= block) transfer = std::min(transfer, limits.io_max_bytes);
  if (mdts > 0 && mdts < 20) transfer = std::min(transfer, kPageBytes << mdts);
  local.transfer_max_bytes = static_cast<uint32_t>(whole_blocks(transfer, block));
  local.segments_max = segments;
  if ((optional_commands & kOncsDatasetManagement) != 0) {
    local.discard_max_bytes =
        whole_blocks(std::min(limits.discard_max_bytes, kRangeBlocksMax * block), block);
  }
  if ((optional_commands & kOncsWriteZeroes) != 0) {
    local.write_zeroes_max_bytes =
        whole_blocks(std::min(limits.write_zeroes_max_bytes, kBlocksMax * block), block);
  }
  return local;
}

LocalStep next_step(const LocalNamespace& target, const LocalRequest& request,
                    uint64_t zeroes_bytes) {
  LocalStep step;
  PassthroughCommand& command = step.command;
  command.nsid = target.nsid;
  uint64_t left = request.length_bytes - request.done_bytes;
  uint32_t flags = request.fua ? kForceUnitAccess : 0;
  IoOpcode opcode = IoOpcode::kFlush;  // NVM command set 1.0, 3.2 and base 2.0, 7.1
  switch (request.op) {
    case IoOp::kRead:
    case IoOp::kWrite:
      opcode = request.op == IoOp::kRead ? IoOpcode::kRead : IoOpcode::kWrite;
      if (request.op == IoOp::kRead) flags = 0;
      step.step_bytes = left;
      step.data = LocalData::kRequest;
      break;
    case IoOp::kFlush:
      break;
    case IoOp::kWriteZeroes: {
      bool can = target.write_zeroes_max_bytes > 0;
      opcode = can ? IoOpcode::kWriteZeroes : IoOpcode::kWrite;
      step.step_bytes = std::min(left, can ? target.write_zeroes_max_bytes : zeroes_bytes);
      if (can && request.may_discard) flags |= kDeallocate;
      if (!can) step.data = LocalData::kZeroes;
      break;
    }
    case IoOp::kDiscard:
      opcode = IoOpcode::kDatasetManagement;
      step.step_bytes = std::min(left, target.discard_max_bytes);
      step.data = LocalData::kRange;
      command.cdw11 = kDsmDeallocate;  // CDW10: one range, 0's based
      break;
  }
  command.opcode = static_cast<uint8_t>(opcode);
  if (request.op == IoOp::kFlush || request.op == IoOp::kDiscard) return step;
  uint64_t first = (request.offset_bytes + request.done_bytes) / target.block_bytes;
  uint64_t blocks = step.step_bytes / target.block_bytes;
  BB_CHECK(blocks > 0 && blocks <= kBlocksMax, "{} blocks in one command", blocks);
  command.cdw10 = static_cast<uint32_t>(first);
  command.cdw11 = static_cast<uint32_t>(first >> 32);
  command.cdw12 = static_cast<uint32_t>(blocks - 1) | flags;
  return step;
}

bool was_cut_off(int32_t result, bool changes_data) {
  if (result <= 0) return result == -EINTR || result == -EAGAIN || result == -EFAULT;
  Verdict verdict = judge({.status = static_cast<NvmeStatus>(result)}, changes_data);
  return verdict == Verdict::kAgain || verdict == Verdict::kElsewhere;
}

void encode_range(Bytes into, const LocalNamespace& target, const LocalRequest& request,
                  uint64_t step_bytes) {
  BB_CHECK(into.size() >= kDsmRangeBytes, "a range in {} bytes", into.size());
  store_le<uint32_t>(into.data(), 0);
  store_le<uint32_t>(into.data() + 4, static_cast<uint32_t>(step_bytes / target.block_bytes));
  store_le<uint64_t>(into.data() + 8,
                     (request.offset_bytes + request.done_bytes) / target.block_bytes);
}

}  // namespace bb::io::nvme
