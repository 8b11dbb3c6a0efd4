// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/target_limits.h"

#include <bit>

namespace bb::io::nvme {
namespace {

struct Row {
  const char* name;
  uint64_t value;
  uint64_t least;
  uint64_t most;
  const char* unit;
};

}  // namespace

Status check_limits(const TargetLimits& limits) {
  const Row rows[] = {
      {"I/O queue depth", limits.io_queue_depth, 2, 4096, "entries"},
      {"admin queue depth", limits.admin_queue_depth, 32, 4096, "entries"},  // fabrics: 32 at least
      {"I/O queues of a controller", limits.io_queues, 1, 256, "queues"},
      {"asynchronous events", limits.async_events, 1, 16, "requests"},
      {"controllers", limits.controllers, 1, 0xffef, "controllers"},
      {"connections", limits.connections, 1, 65'536, "connections"},
      {"namespaces", limits.namespaces, 1, 65'536, "namespaces"},
      {"in-capsule data", limits.capsule_data_bytes, 0, 1u << 16, "bytes"},
      {"data in one PDU", limits.h2c_data_bytes, 4096, 1u << 20, "bytes"},
      {"transfer", limits.transfer_bytes, 8192, 32u << 20, "bytes"},
      {"buffered data", limits.buffered_bytes, 4096, 1u << 30, "bytes"},
      {"keep alive grace", limits.keep_alive_grace_ns, 0, 3600'000'000'000, "ns"},
  };
  for (const Row& row : rows) {
    if (row.value >= row.least && row.value <= row.most) continue;
    return error(Code::k_invalid_argument, "{}: {} {}, and {} to {} are allowed", row.name,
                 row.value, row.unit, row.least, row.most);
  }
  if (limits.capsule_data_bytes % 16 != 0) {  // IOCCSZ counts units of 16 bytes
    return error(Code::k_invalid_argument, "in-capsule data: {} bytes are not a multiple of 16",
                 limits.capsule_data_bytes);
  }
  if (!std::has_single_bit(limits.transfer_bytes)) {  // MDTS is a power of two
    return error(Code::k_invalid_argument, "transfer: {} bytes are not a power of two",
                 limits.transfer_bytes);
  }
  return {};
}

}  // namespace bb::io::nvme
