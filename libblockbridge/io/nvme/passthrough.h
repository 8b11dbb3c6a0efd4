// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "io/device.h"
#include "io/nvme/identify.h"

// Requests as commands for the kernel's NVMe passthrough (NVMe base 2.0, NVM command set 1.0):
// values only.
namespace bb::io::nvme {

// struct nvme_uring_cmd of linux/nvme_ioctl.h: an entry of 128 bytes carries it.
struct PassthroughCommand {
  uint8_t opcode = 0;
  uint8_t flags = 0;
  uint16_t reserved1 = 0;
  uint32_t nsid = 0;
  uint32_t cdw2 = 0;
  uint32_t cdw3 = 0;
  uint64_t metadata_address = 0;
  uint64_t address = 0;  // of the data, or of iovecs
  uint32_t metadata_bytes = 0;
  uint32_t data_length = 0;  // in bytes, or in iovecs
  uint32_t cdw10 = 0;
  uint32_t cdw11 = 0;
  uint32_t cdw12 = 0;
  uint32_t cdw13 = 0;
  uint32_t cdw14 = 0;
  uint32_t cdw15 = 0;
  uint32_t timeout_ms = 0;
  uint32_t reserved2 = 0;
};
static_assert(sizeof(PassthroughCommand) == 72);

// What the kernel allows for a drive (/sys/class/block/nvmeXnY/queue). It knows the limits that
// Identify does not tell in one place, and its own.
struct QueueLimits {
  uint64_t io_max_bytes = 0;            // max_hw_sectors_kb
  uint32_t segments_max = 0;            // max_segments
  uint64_t discard_max_bytes = 0;       // discard_max_hw_bytes
  uint64_t write_zeroes_max_bytes = 0;  // write_zeroes_max_bytes
};
// When there is no block device to ask: what every kernel with passthrough gives a PCIe drive.
inline constexpr QueueLimits kLeastLimits{.io_max_bytes = 512u << 10,
                                          .segments_max = 127,
                                          .discard_max_bytes = 0,
                                          .write_zeroes_max_bytes = 0};

// A namespace as passthrough sees it.
struct LocalNamespace {
  uint32_t nsid = 0;
  uint32_t block_bytes = 512;
  uint32_t transfer_max_bytes = 0;
  uint32_t segments_max = 0;            // pages that one transfer may touch
  uint64_t discard_max_bytes = 0;       // of one command; 0: cannot
  uint64_t write_zeroes_max_bytes = 0;  // of one command; 0: zeroes are written
};
// `mdts` and `optional_commands` (ONCS) are those of Identify Controller, figure 275.
LocalNamespace local_namespace_of(uint32_t nsid, const NamespaceInfo& info, uint8_t mdts,
                                  uint16_t optional_commands, const QueueLimits& limits);

// A request, and how much of it earlier commands have done.
struct LocalRequest {
  IoOp op = IoOp::kRead;
  bool fua = false;
  bool may_discard = false;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  uint64_t done_bytes = 0;
};

enum class LocalData : uint8_t { kNone, kRequest, kZeroes, kRange };

struct LocalStep {
  PassthroughCommand command;  // without address, length and timeout
  uint64_t step_bytes = 0;     // of the request, done with this command
  LocalData data = LocalData::kNone;
};
// The next command of a request; `zeroes_bytes` are at hand for a drive without Write Zeroes.
LocalStep next_step(const LocalNamespace& target, const LocalRequest& request,
                    uint64_t zeroes_bytes);

// Whether a command did nothing because its controller was reset, and goes again. `result` is an
// errno of the kernel (negative; -EINTR: it gave the command up; -EFAULT: see cut_address.h) or the
// status that the drive gave: its queue was deleted, or its path is at fault.
bool was_cut_off(int32_t result, bool changes_data);

// One range of Dataset Management, 16 bytes.
void encode_range(Bytes into, const LocalNamespace& target, const LocalRequest& request,
                  uint64_t step_bytes);

}  // namespace bb::io::nvme
