// SPDX-License-Identifier: Apache-2.0
// pure: NVMe 2.0 Identify data structures
#pragma once

#include <string>
#include <vector>

#include "io/nvme/command.h"

namespace bb::io::nvme {

enum class ControllerType : uint8_t { kNotReported = 0, kIo = 1, kDiscovery = 2, kAdmin = 3 };

// ONCS bits: optional I/O commands.
inline constexpr uint16_t kOncsCompare = 1u << 0;
inline constexpr uint16_t kOncsDatasetManagement = 1u << 2;
inline constexpr uint16_t kOncsWriteZeroes = 1u << 3;
inline constexpr uint16_t kOncsReservations = 1u << 5;
inline constexpr uint16_t kOncsVerify = 1u << 7;
inline constexpr uint16_t kOncsCopy = 1u << 8;
// CTRATT bits.
inline constexpr uint32_t kCtrattHostId128 = 1u << 0;
inline constexpr uint32_t kCtrattTrafficKeepsAlive = 1u << 6;

// Identify Controller (CNS 01h): what we fill in as a target and need as an initiator.
struct ControllerInfo {
  std::string serial;    // at most 20 bytes
  std::string model;     // at most 40
  std::string firmware;  // at most 8
  std::string subsystem_nqn;
  uint16_t controller_id = 0;
  uint32_t version = kVersion20;
  ControllerType type = ControllerType::kIo;
  uint32_t transfer_max_bytes = 0;         // MDTS in bytes (pages of 4096); 0: no limit
  uint32_t async_events = 0;               // OAES
  uint32_t attributes = 0;                 // CTRATT
  uint8_t async_event_max = 4;             // AERL, 1's based here
  uint8_t error_entries = 1;               // ELPE, 1's based here
  uint16_t keep_alive_granularity_ms = 0;  // KAS; 0: no keep alive
  uint16_t command_max = 0;                // MAXCMD
  uint32_t namespace_max = 0;              // NN
  uint16_t optional_commands = 0;          // ONCS
  bool volatile_cache = false;             // VWC
  bool fused_compare_write = false;        // FUSES
  uint32_t compare_write_blocks = 1;       // ACWU, 1's based here
  uint32_t capsule_bytes = 64;             // IOCCSZ in bytes: SQE and in-capsule data
  uint32_t response_bytes = 16;            // IORCSZ in bytes
  bool ana = false;                        // CMIC: the ANA log page tells how it reaches namespaces
  uint8_t ana_transition_s = 0;            // ANATT: the longest that a namespace is in change
  uint16_t quiesce_ms = 0;  // CQT (NVMe 2.1): commands of a lost host end; 0: unknown
  // Ours alone, in the vendor's part: a Connect is answered only once nothing of what the host had
  // at this address before can reach the namespaces any more.
  bool fences_reconnect = false;

  // IO_ERROR when the sizes or versions cannot be worked with.
  static Result<ControllerInfo> decode(ConstBytes data);
  void encode(Bytes into) const;  // 4096 bytes
};

// Identify Namespace (CNS 00h).
struct NamespaceInfo {
  uint64_t block_count = 0;
  uint32_t block_bytes = 512;
  uint32_t physical_block_bytes = 512;  // reported as preferred write granularity
  bool read_only = false;               // NSATTR
  bool deallocate = false;
  uint8_t reservations = 0;           // RESCAP
  uint32_t compare_write_blocks = 1;  // NACWU, 1's based here
  uint32_t copy_blocks = 0;           // MSSRL and MCL
  uint32_t ana_group = 0;             // ANAGRPID; 0: not reported
  Uuid uuid;                          // also the NGUID

  static Result<NamespaceInfo> decode(ConstBytes data);  // without uuid when NGUID is 0
  void encode(Bytes into) const;                         // 4096 bytes
  void encode_independent(Bytes into) const;             // CNS 08h
};

// What the NVM command set adds to a controller (CNS 06h): limits beside MDTS.
void encode_command_set_controller(Bytes into, uint32_t verify_max_bytes);  // 4096 bytes

// Namespace Identification Descriptor list (CNS 03h).
struct NamespaceDescriptors {
  Uuid uuid;  // nil when there is none
  static NamespaceDescriptors decode(ConstBytes data);
  void encode(Bytes into) const;  // 4096 bytes
};

// Active namespace list (CNS 02h): ids above `after`, at most 1024.
void encode_namespace_list(Bytes into, const std::vector<uint32_t>& nsids, uint32_t after);
std::vector<uint32_t> decode_namespace_list(ConstBytes data);

}  // namespace bb::io::nvme
