// SPDX-License-Identifier: Apache-2.0
#include "io/ublk/mapping.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/crc32c.h"
#include "base/units.h"

namespace bb::io::ublk {
namespace {

constexpr uint32_t kPageBytes = 4096;
constexpr uint64_t kServerMagic = 0x6262'7562;  // "bubb", above the checksum of the identity
// One discard or write-zeroes: bounded, so that a slow device answers between two of them.
constexpr uint64_t kRangeMaxBytes = 256 * MiB;

uint8_t shift_of(uint64_t power_of_two) {
  return static_cast<uint8_t>(std::countr_zero(power_of_two));
}

}  // namespace

uint32_t io_max_bytes_of(const DeviceInfo& info, uint32_t limit_bytes) {
  uint32_t bytes = std::min(info.transfer_max_bytes, limit_bytes);
  return std::max(bytes / kPageBytes, 1u) * kPageBytes;
}

Result<Parameters> parameters_of(const DeviceInfo& info, uint32_t io_max_bytes) {
  uint32_t block = info.block_size_bytes;
  if (!std::has_single_bit(block) || block < kSectorBytes || block > kPageBytes) {
    return error(Code::k_invalid_argument,
                 "{}: blocks of {} bytes: a Linux block device has 512, 1024, 2048 or 4096",
                 info.uri, block);
  }
  if (io_max_bytes > std::max(info.transfer_max_bytes, kPageBytes)) {
    return error(Code::k_invalid_argument, "{}: takes {} bytes in one transfer, not {}", info.uri,
                 info.transfer_max_bytes, io_max_bytes);
  }
  uint32_t physical = std::has_single_bit(info.physical_block_bytes)
                          ? std::max(block, info.physical_block_bytes)
                          : block;
  Parameters parameters;
  BasicParameters& basic = parameters.basic;
  if (info.read_only) basic.attributes |= kReadOnly;
  // The kernel sends flushes, and believes in FUA, only where there is a cache to speak of.
  if (info.volatile_cache) basic.attributes |= kVolatileCache | kForceUnitAccess;
  basic.logical_block_shift = shift_of(block);
  basic.physical_block_shift = shift_of(physical);
  basic.io_min_shift = basic.io_optimal_shift = basic.physical_block_shift;
  basic.io_max_sectors = io_max_bytes / kSectorBytes;
  basic.size_sectors = info.size_bytes / kSectorBytes;
  DiscardParameters& discard = parameters.discard;
  auto range_max = static_cast<uint32_t>(kRangeMaxBytes / kSectorBytes);
  discard.granularity_bytes = physical;
  if (!info.read_only) discard.write_zeroes_max_sectors = range_max;
  if (info.discard && !info.read_only) {
    discard.discard_max_sectors = range_max;
    discard.segments_max = 1;
  }
  return parameters;
}

Status check_takeover(const Parameters& before, const Parameters& now) {
  auto refused = [](std::string_view what, uint64_t was, uint64_t is) {
    return error(
        Code::k_bad_state,
        "the block device was made with {} {}, and the device has {}: the kernel cannot be "
        "told",
        what, was, is);
  };
  const BasicParameters& was = before.basic;
  const BasicParameters& is = now.basic;
  if (was.size_sectors != is.size_sectors) {
    return refused("sectors:", was.size_sectors, is.size_sectors);
  }
  if (was.logical_block_shift != is.logical_block_shift) {
    return refused("blocks of bytes:", 1u << was.logical_block_shift, 1u << is.logical_block_shift);
  }
  if (was.io_max_sectors > is.io_max_sectors) {
    return refused("sectors in one request:", was.io_max_sectors, is.io_max_sectors);
  }
  // A cache the kernel does not know of is one that it does not flush.
  if (was.attributes != is.attributes) return refused("attributes", was.attributes, is.attributes);
  if (before.discard.discard_max_sectors > now.discard.discard_max_sectors) {
    return refused("sectors in one discard:", before.discard.discard_max_sectors,
                   now.discard.discard_max_sectors);
  }
  return {};
}

uint64_t server_flags_of(std::string_view identity) {
  return (kServerMagic << 32) | crc32c(as_bytes(identity));
}

bool is_ours(uint64_t server_flags) { return server_flags >> 32 == kServerMagic; }

std::optional<Request> request_of(const RequestRecord& record) {
  Request request{.fua = (record.op_flags & kRequestFua) != 0,
                  .offset_bytes = record.first_sector * kSectorBytes,
                  .length_bytes = record.sector_count * kSectorBytes};
  switch (static_cast<RequestOp>(record.op_flags & kRequestOpMask)) {
    case RequestOp::kRead:
      request.op = IoOp::kRead;
      return request;
    case RequestOp::kWrite:
      request.op = IoOp::kWrite;
      return request;
    case RequestOp::kFlush:
      return Request{.op = IoOp::kFlush};
    case RequestOp::kDiscard:
      request.op = IoOp::kDiscard;
      request.fua = false;
      return request;
    case RequestOp::kWriteZeroes:
      request.op = IoOp::kWriteZeroes;
      request.may_discard = (record.op_flags & kRequestNoUnmap) == 0;
      return request;
  }
  return std::nullopt;
}

int32_t result_of(const Request& request, Code code) {
  switch (code) {  // errno_to_blk_status() of the kernel's block layer makes of them what is noted
    case Code::k_ok:
      return moves_data(request.op) ? static_cast<int32_t>(request.length_bytes) : 0;
    case Code::k_no_space:
      return -ENOSPC;
    case Code::k_not_supported:
      return -EOPNOTSUPP;
    case Code::k_unavailable:
      return -ENOLINK;  // transport
    case Code::k_timed_out:
      return -ETIMEDOUT;
    case Code::k_fenced:
      return -EBADE;  // reservation conflict
    case Code::k_corrupt:
      return -EILSEQ;  // protection
    case Code::k_io_error:
      return request.op == IoOp::kRead ? -ENODATA : -EIO;  // medium
    case Code::k_invalid_argument:
    case Code::k_not_found:
    case Code::k_already_exists:
    case Code::k_permission_denied:
    case Code::k_bad_state:
    case Code::k_busy:
    case Code::k_not_leader:
    case Code::k_cancelled:
    case Code::k_internal:
      return -EIO;
  }
  return -EIO;
}

}  // namespace bb::io::ublk
