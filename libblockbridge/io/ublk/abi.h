// SPDX-License-Identifier: Apache-2.0
// pure: the kernel's ublk interface (linux/ublk_cmd.h of Linux 6.4 and newer): numbers and layouts
#pragma once

#include <cstdint>

namespace bb::io::ublk {

// Written out because Debian 12's header is older than the kernels that serve: it lacks the
// commands in ioctl encoding. control.cc compares the layouts with the header that is there.

// _IOR/_IOWR('u', number, 32 or 16 bytes).
constexpr uint32_t ioctl_code(uint32_t direction, uint32_t number, uint32_t size_bytes) {
  return (direction << 30) | (size_bytes << 16) | (uint32_t{'u'} << 8) | number;
}
inline constexpr uint32_t kIocRead = 2;
inline constexpr uint32_t kIocReadWrite = 3;

struct ControlCommand {  // in the submission entry, to /dev/ublk-control
  uint32_t device_id = 0;
  uint16_t queue_id = UINT16_MAX;  // for none
  uint16_t length_bytes = 0;
  uint64_t address = 0;
  uint64_t data = 0;  // START_DEV, END_USER_RECOVERY: our process id
  uint16_t path_length_bytes = 0;
  uint16_t reserved0 = 0;
  uint32_t reserved1 = 0;
};
static_assert(sizeof(ControlCommand) == 32);

enum class ControlOp : uint32_t {
  kAddDevice = ioctl_code(kIocReadWrite, 0x04, sizeof(ControlCommand)),
  kDeleteDevice = ioctl_code(kIocReadWrite, 0x05, sizeof(ControlCommand)),
  kStartDevice = ioctl_code(kIocReadWrite, 0x06, sizeof(ControlCommand)),
  kStopDevice = ioctl_code(kIocReadWrite, 0x07, sizeof(ControlCommand)),
  kSetParameters = ioctl_code(kIocReadWrite, 0x08, sizeof(ControlCommand)),
  kGetParameters = ioctl_code(kIocRead, 0x09, sizeof(ControlCommand)),
  kStartRecovery = ioctl_code(kIocReadWrite, 0x10, sizeof(ControlCommand)),
  kEndRecovery = ioctl_code(kIocReadWrite, 0x11, sizeof(ControlCommand)),
  kGetDeviceInfo = ioctl_code(kIocRead, 0x12, sizeof(ControlCommand)),  // GET_DEV_INFO2
};

inline constexpr uint32_t kAnyDevice = UINT32_MAX;
inline constexpr uint32_t kDeviceIdMax = (1u << 20) - 1;
inline constexpr uint32_t kQueueDepthMax = 4096;

// DeviceRecord::flags.
inline constexpr uint64_t kUserRecovery = 1u << 3;         // I/O waits when its server dies
inline constexpr uint64_t kUserRecoveryReissue = 1u << 4;  // so does I/O that the server had
inline constexpr uint64_t kIoctlEncoded = 1u << 6;

enum class DeviceStatus : uint16_t { kDead = 0, kLive = 1, kQuiesced = 2 };

struct DeviceRecord {
  uint16_t queue_count = 0;
  uint16_t queue_depth = 0;
  DeviceStatus status = DeviceStatus::kDead;
  uint16_t reserved0 = 0;
  uint32_t io_max_bytes = 0;
  uint32_t device_id = 0;
  int32_t server_pid = 0;
  uint32_t reserved1 = 0;
  uint64_t flags = 0;
  uint64_t server_flags = 0;  // ours: the driver keeps it
  uint32_t owner_uid = 0;
  uint32_t owner_gid = 0;
  uint64_t reserved2 = 0;
  uint64_t reserved3 = 0;
};
static_assert(sizeof(DeviceRecord) == 64);

// BasicParameters::attributes.
inline constexpr uint32_t kReadOnly = 1u << 0;
inline constexpr uint32_t kVolatileCache = 1u << 2;
inline constexpr uint32_t kForceUnitAccess = 1u << 3;

inline constexpr uint32_t kSectorBytes = 512;

struct BasicParameters {
  uint32_t attributes = 0;
  uint8_t logical_block_shift = 0;
  uint8_t physical_block_shift = 0;
  uint8_t io_optimal_shift = 0;
  uint8_t io_min_shift = 0;
  uint32_t io_max_sectors = 0;
  uint32_t chunk_sectors = 0;
  uint64_t size_sectors = 0;
  uint64_t virtual_boundary_mask = 0;
  bool operator==(const BasicParameters&) const = default;
};
static_assert(sizeof(BasicParameters) == 32);

struct DiscardParameters {
  uint32_t alignment_bytes = 0;
  uint32_t granularity_bytes = 0;
  uint32_t discard_max_sectors = 0;
  uint32_t write_zeroes_max_sectors = 0;
  uint16_t segments_max = 0;
  uint16_t reserved = 0;
  bool operator==(const DiscardParameters&) const = default;
};
static_assert(sizeof(DiscardParameters) == 20);

inline constexpr uint32_t kHasBasic = 1u << 0;
inline constexpr uint32_t kHasDiscard = 1u << 1;

inline constexpr uint32_t kParametersBytes = 60;  // to the end of `discard`; the driver knows more

struct Parameters {
  uint32_t length_bytes = kParametersBytes;
  uint32_t types = kHasBasic | kHasDiscard;
  BasicParameters basic;
  DiscardParameters discard;
};

// To /dev/ublkcN; the 16 bytes fit an ordinary submission entry.
struct IoCommand {
  uint16_t queue_id = 0;
  uint16_t tag = 0;
  int32_t result = 0;    // commit: bytes done, or a negative errno
  uint64_t address = 0;  // the buffer for the next request of this tag
};
static_assert(sizeof(IoCommand) == 16);

enum class IoCommandOp : uint32_t {
  kFetch = ioctl_code(kIocReadWrite, 0x20, sizeof(IoCommand)),
  kCommitAndFetch = ioctl_code(kIocReadWrite, 0x21, sizeof(IoCommand)),
};
inline constexpr int32_t kRequestCame = 0;  // completion of a fetch; else a negative errno

enum class RequestOp : uint8_t {
  kRead = 0,
  kWrite = 1,
  kFlush = 2,
  kDiscard = 3,
  kWriteZeroes = 5,
};
inline constexpr uint32_t kRequestOpMask = 0xff;
inline constexpr uint32_t kRequestFua = 1u << 13;
inline constexpr uint32_t kRequestNoUnmap = 1u << 15;

struct RequestRecord {  // in memory the driver shares with us, one a tag
  uint32_t op_flags = 0;
  uint32_t sector_count = 0;
  uint64_t first_sector = 0;
  uint64_t address = 0;
};
static_assert(sizeof(RequestRecord) == 24);

}  // namespace bb::io::ublk
