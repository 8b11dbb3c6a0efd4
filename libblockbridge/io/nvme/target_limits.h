// SPDX-License-Identifier: Apache-2.0
// pure: what a target allows
#pragma once

#include <cstdint>

#include "base/status.h"

namespace bb::io::nvme {

enum class DigestPolicy : uint8_t { kAllow, kRequire, kOff };

struct TargetLimits {
  uint16_t io_queue_depth = 128;
  uint16_t admin_queue_depth = 32;
  uint16_t io_queues = 16;     // of one controller
  uint16_t async_events = 4;   // waiting, of one controller
  uint32_t controllers = 256;  // of the target
  uint32_t connections = 1024;
  // Connections without a Connect so far, and I/O queues whose host has yet to prove itself;
  // beyond, the oldest goes.
  uint32_t handshakes = 128;
  uint32_t subsystems = 1024;
  uint32_t namespaces = 1024;  // of one subsystem: the highest nsid
  uint32_t capsule_data_bytes = 8192;
  uint32_t h2c_data_bytes = 128 * 1024;
  uint32_t transfer_bytes = 1u << 20;  // MDTS
  // Data on its way between hosts and devices, besides what comes in capsules: of one connection,
  // which is less the fuller all is; of all together; and what each may have whatever others have.
  // A connection without any may always have one command's: the bound is buffered_total_bytes and,
  // for each connection, what its largest command takes, a Compare and Write: three transfers.
  uint64_t buffered_bytes = 8u << 20;
  uint64_t buffered_total_bytes = 256u << 20;
  uint64_t buffered_reserve_bytes = 256u << 10;
  // On loan to a connection at once, if it is not one command: what a socket usually has room for.
  uint64_t lent_bytes = 1u << 20;
  uint64_t handshake_ns = 10'000'000'000;  // until Connect, and the proof, have succeeded
  uint64_t keep_alive_grace_ns = 1'000'000'000;
};

// INVALID_ARGUMENT names the limit and what it may be.
Status check_limits(const TargetLimits& limits);

}  // namespace bb::io::nvme
