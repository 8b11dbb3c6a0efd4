// SPDX-License-Identifier: Apache-2.0
// pure: NVMe 2.0 queue entries, opcodes and what the fabrics commands carry
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"
#include "base/uuid.h"
#include "io/nvme/status.h"

namespace bb::io::nvme {

inline constexpr size_t kSqeBytes = 64;
inline constexpr size_t kCqeBytes = 16;
inline constexpr size_t kNqnFieldBytes = 256;
inline constexpr size_t kNqnMaxBytes = 223;
inline constexpr size_t kIdentifyBytes = 4096;
inline constexpr uint32_t kNsidAll = 0xffffffff;
inline constexpr uint16_t kControllerIdAny = 0xffff;  // Connect: "give me one"
inline constexpr uint16_t kControllerIdMax = 0xffef;
inline constexpr std::string_view kDiscoveryNqn = "nqn.2014-08.org.nvmexpress.discovery";

enum class AdminOpcode : uint8_t {
  kGetLogPage = 0x02,
  kIdentify = 0x06,
  kAbort = 0x08,
  kSetFeatures = 0x09,
  kGetFeatures = 0x0a,
  kAsyncEventRequest = 0x0c,
  kKeepAlive = 0x18,
  kFabrics = 0x7f,
};

enum class IoOpcode : uint8_t {
  kFlush = 0x00,
  kWrite = 0x01,
  kRead = 0x02,
  kCompare = 0x05,
  kWriteZeroes = 0x08,
  kDatasetManagement = 0x09,
  kVerify = 0x0c,
  kReservationRegister = 0x0d,
  kReservationReport = 0x0e,
  kReservationAcquire = 0x11,
  kReservationRelease = 0x15,
  kCopy = 0x19,
};

enum class FabricsType : uint8_t {
  kPropertySet = 0x00,
  kConnect = 0x01,
  kPropertyGet = 0x04,
  kAuthSend = 0x05,
  kAuthReceive = 0x06,
};

enum class FeatureId : uint8_t {
  kArbitration = 0x01,
  kPowerManagement = 0x02,
  kTemperatureThreshold = 0x04,
  kErrorRecovery = 0x05,
  kVolatileWriteCache = 0x06,
  kNumberOfQueues = 0x07,
  kWriteAtomicity = 0x0a,
  kAsyncEventConfig = 0x0b,
  kKeepAliveTimer = 0x0f,
  kHostBehavior = 0x16,
  kHostIdentifier = 0x81,
  kReservationMask = 0x82,         // which notifications are not told
  kReservationPersistence = 0x83,  // PTPL
};

enum class LogId : uint8_t {
  kSupportedPages = 0x00,
  kError = 0x01,
  kSmart = 0x02,
  kFirmware = 0x03,
  kChangedNamespaces = 0x04,
  kCommandEffects = 0x05,
  kAsymmetricAccess = 0x0c,
  kFeaturesSupported = 0x12,
  kDiscovery = 0x70,
  kReservation = 0x80,
};

enum class IdentifyCns : uint8_t {
  kNamespace = 0x00,
  kController = 0x01,
  kActiveNamespaces = 0x02,
  kNamespaceDescriptors = 0x03,
  kCommandSetNamespace = 0x05,
  kCommandSetController = 0x06,
  kCommandSetActiveNamespaces = 0x07,
  kIndependentNamespace = 0x08,
};

// CDW12 of Read, Write, Compare, Write Zeroes, Verify and, but for the count, Copy.
inline constexpr uint32_t kForceUnitAccess = 1u << 30;
inline constexpr uint32_t kDeallocate = 1u << 25;  // Write Zeroes may free the range
inline constexpr uint32_t kLimitedRetry = 1u << 31;
// CDW11 of Dataset Management.
inline constexpr uint32_t kDsmDeallocate = 1u << 2;
inline constexpr uint32_t kDsmRangesMax = 256;
inline constexpr size_t kDsmRangeBytes = 16;
// Copy: CDW12 counts the source ranges in bits 7:0 and names their format in 11:8.
inline constexpr uint32_t kCopyRangesMax = 128;  // MSRC: a page of them
inline constexpr size_t kCopyRangeBytes = 32;    // format 0

// The only two data descriptors that NVMe/TCP knows.
inline constexpr uint8_t kSglInCapsule = 0x01;      // data block, offset: behind the SQE
inline constexpr uint8_t kSglTransportData = 0x5a;  // transport data block: by data PDUs
inline constexpr uint8_t kFlagSgl = 0x40;           // PSDT 01b: DPTR holds an SGL
inline constexpr uint8_t kFlagPsdtMask = 0xc0;
inline constexpr uint8_t kFlagFuseMask = 0x03;
inline constexpr uint8_t kFlagFuseFirst = 0x01;
inline constexpr uint8_t kFlagFuseSecond = 0x02;

struct Sgl {
  uint64_t address = 0;
  uint32_t length_bytes = 0;
  uint8_t type = 0;
};

// Submission queue entry. Fabrics commands use byte 4 (the low one of `nsid`) as their type.
struct Sqe {
  uint8_t opcode = 0;
  uint8_t flags = 0;
  uint16_t command_id = 0;
  uint32_t nsid = 0;
  uint32_t cdw2 = 0;
  uint32_t cdw3 = 0;
  uint64_t metadata = 0;
  Sgl sgl;
  uint32_t cdw10 = 0;
  uint32_t cdw11 = 0;
  uint32_t cdw12 = 0;
  uint32_t cdw13 = 0;
  uint32_t cdw14 = 0;
  uint32_t cdw15 = 0;

  static Sqe decode(ConstBytes sqe);
  void encode(Bytes into) const;  // 64 bytes

  FabricsType fabrics_type() const { return static_cast<FabricsType>(nsid & 0xff); }
  // Read, Write, Compare, Write Zeroes.
  uint64_t first_block() const { return cdw10 | (uint64_t{cdw11} << 32); }
  uint32_t block_count() const { return (cdw12 & 0xffff) + 1; }
};

Sgl in_capsule_sgl(uint32_t length_bytes);
Sgl transport_sgl(uint32_t length_bytes);

struct Cqe {
  uint64_t result = 0;  // DW0 and DW1
  uint16_t sq_head = 0;
  uint16_t sq_id = 0;
  uint16_t command_id = 0;
  NvmeStatus status = NvmeStatus::kSuccess;

  static Cqe decode(ConstBytes cqe);
  void encode(Bytes into) const;  // 16 bytes
};

// Who a host says it is, from its Connect.
struct HostIdentity {
  std::string host_nqn;
  Uuid host_id;
  auto operator<=>(const HostIdentity&) const = default;
};

inline constexpr size_t kConnectDataBytes = 1024;
inline constexpr uint32_t kConnectAuthentication = 1u << 17;  // in DW0: AUTHREQ, ATR
inline constexpr uint8_t kConnectNoFlowControl = 1u << 2;     // CATTR

struct ConnectCommand {
  uint16_t record_format = 0;
  uint16_t queue_id = 0;
  uint16_t queue_size = 0;  // SQSIZE, 0's based
  uint8_t attributes = 0;
  uint32_t keep_alive_ms = 0;

  static ConnectCommand decode(const Sqe& sqe);
  void encode(Sqe& sqe) const;
};

struct ConnectData {
  HostIdentity host;
  uint16_t controller_id = kControllerIdAny;
  std::string subsystem_nqn;

  // INVALID_ARGUMENT when a name is not terminated, too long or empty; the text begins with the
  // field's byte offset, which connect_error_offset() gives.
  static Result<ConnectData> decode(ConstBytes data);
  void encode(Bytes into) const;  // 1024 bytes
};
inline constexpr uint16_t kConnectDataControllerAt = 16;
inline constexpr uint16_t kConnectDataSubsystemAt = 256;
inline constexpr uint16_t kConnectDataHostAt = 512;

// DW0 of a refused Connect: where the invalid parameter is.
uint32_t connect_invalid_parameter(uint16_t offset, bool in_data);

// "nqn." names: 1 to 223 bytes without control characters; INVALID_ARGUMENT with the reason.
Status check_nqn(std::string_view nqn);

// Properties (controller registers), by offset.
enum class Property : uint32_t { kCap = 0x00, kVs = 0x08, kCc = 0x14, kCsts = 0x1c, kNssr = 0x20 };
inline constexpr uint32_t kVersion20 = 0x00020000;
inline constexpr uint32_t kCcEnable = 1u << 0;
inline constexpr uint32_t kCcShutdownMask = 3u << 14;
inline constexpr uint32_t kCcShutdownNormal = 1u << 14;
inline constexpr uint32_t kCcEntrySizes = (6u << 16) | (4u << 20);  // IOSQES 64, IOCQES 16
inline constexpr uint32_t kCstsReady = 1u << 0;
inline constexpr uint32_t kCstsFatal = 1u << 1;
inline constexpr uint32_t kCstsShutdownMask = 3u << 2;
inline constexpr uint32_t kCstsShutdownOccurring = 1u << 2;
inline constexpr uint32_t kCstsShutdownDone = 2u << 2;

struct Capabilities {
  uint16_t queue_entries_max = 1;  // MQES, 1's based here
  uint32_t ready_timeout_ms = 500;
  static Capabilities decode(uint64_t cap);
  uint64_t encode() const;
};

// Asynchronous events, DW0 of the completion: type, information and log page.
inline constexpr uint32_t kEventNamespaceChanged = 0x02u | (0x00u << 8) | (0x04u << 16);
inline constexpr uint32_t kEventAnaChanged = 0x02u | (0x03u << 8) | (0x0cu << 16);
inline constexpr uint32_t kEventDiscoveryChanged = 0x02u | (0xf0u << 8) | (0x70u << 16);
inline constexpr uint32_t kEventReservationLog = 0x06u | (0x00u << 8) | (0x80u << 16);
inline constexpr uint32_t kEventConfigNamespace = 1u << 8;
inline constexpr uint32_t kEventConfigAna = 1u << 11;
inline constexpr uint32_t kEventConfigDiscovery = 1u << 31;

}  // namespace bb::io::nvme
