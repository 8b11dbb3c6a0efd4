// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/command.h"

#include <algorithm>

#include "base/check.h"

namespace bb::io::nvme {
namespace {

Result<std::string> name_field(ConstBytes data, uint16_t at, const char* what) {
  ConstBytes field = data.subspan(at, kNqnFieldBytes);
  auto end = std::find(field.begin(), field.end(), std::byte{0});
  std::string name(as_text(field.first(static_cast<size_t>(end - field.begin()))));
  Status status = check_nqn(name);
  if (!status.ok()) return status.with_context(what);
  return name;
}

void store_name(Bytes into, uint16_t at, const std::string& name) {
  BB_CHECK(name.size() < kNqnFieldBytes, "an NQN of {} bytes", name.size());
  std::memcpy(into.data() + at, name.data(), name.size());
}

}  // namespace

Sqe Sqe::decode(ConstBytes sqe) {
  const std::byte* at = sqe.data();
  return {.opcode = static_cast<uint8_t>(at[0]),
          .flags = static_cast<uint8_t>(at[1]),
          .command_id = load_le<uint16_t>(at + 2),
          .nsid = load_le<uint32_t>(at + 4),
          .cdw2 = load_le<uint32_t>(at + 8),
          .cdw3 = load_le<uint32_t>(at + 12),
          .metadata = load_le<uint64_t>(at + 16),
          .sgl = {.address = load_le<uint64_t>(at + 24),
                  .length_bytes = load_le<uint32_t>(at + 32),
                  .type = static_cast<uint8_t>(at[39])},
          .cdw10 = load_le<uint32_t>(at + 40),
          .cdw11 = load_le<uint32_t>(at + 44),
          .cdw12 = load_le<uint32_t>(at + 48),
          .cdw13 = load_le<uint32_t>(at + 52),
          .cdw14 = load_le<uint32_t>(at + 56),
          .cdw15 = load_le<uint32_t>(at + 60)};
}

void Sqe::encode(Bytes into) const {
  BB_CHECK(into.size() >= kSqeBytes, "an SQE in {} bytes", into.size());
  std::byte* at = into.data();
  at[0] = static_cast<std::byte>(opcode);
  at[1] = static_cast<std::byte>(flags);
  store_le<uint16_t>(at + 2, command_id);
  store_le<uint32_t>(at + 4, nsid);
  store_le<uint32_t>(at + 8, cdw2);
  store_le<uint32_t>(at + 12, cdw3);
  store_le<uint64_t>(at + 16, metadata);
  store_le<uint64_t>(at + 24, sgl.address);
  store_le<uint32_t>(at + 32, sgl.length_bytes);
  store_le<uint32_t>(at + 36, uint32_t{sgl.type} << 24);
  store_le<uint32_t>(at + 40, cdw10);
  store_le<uint32_t>(at + 44, cdw11);
  store_le<uint32_t>(at + 48, cdw12);
  store_le<uint32_t>(at + 52, cdw13);
  store_le<uint32_t>(at + 56, cdw14);
  store_le<uint32_t>(at + 60, cdw15);
}

Sgl in_capsule_sgl(uint32_t length_bytes) {
  return {.address = 0, .length_bytes = length_bytes, .type = kSglInCapsule};
}

Sgl transport_sgl(uint32_t length_bytes) {
  return {.address = 0, .length_bytes = length_bytes, .type = kSglTransportData};
}

Cqe Cqe::decode(ConstBytes cqe) {
  const std::byte* at = cqe.data();
  return {.result = load_le<uint64_t>(at),
          .sq_head = load_le<uint16_t>(at + 8),
          .sq_id = load_le<uint16_t>(at + 10),
          .command_id = load_le<uint16_t>(at + 12),
          .status = static_cast<NvmeStatus>(load_le<uint16_t>(at + 14) >> 1)};
}

void Cqe::encode(Bytes into) const {
  BB_CHECK(into.size() >= kCqeBytes, "a CQE in {} bytes", into.size());
  std::byte* at = into.data();
  store_le<uint64_t>(at, result);
  store_le<uint16_t>(at + 8, sq_head);
  store_le<uint16_t>(at + 10, sq_id);
  store_le<uint16_t>(at + 12, command_id);
  store_le<uint16_t>(at + 14, static_cast<uint16_t>(static_cast<uint16_t>(status) << 1));
}

ConnectCommand ConnectCommand::decode(const Sqe& sqe) {
  return {.record_format = static_cast<uint16_t>(sqe.cdw10),
          .queue_id = static_cast<uint16_t>(sqe.cdw10 >> 16),
          .queue_size = static_cast<uint16_t>(sqe.cdw11),
          .attributes = static_cast<uint8_t>(sqe.cdw11 >> 16),
          .keep_alive_ms = sqe.cdw12};
}

void ConnectCommand::encode(Sqe& sqe) const {
  sqe.opcode = static_cast<uint8_t>(AdminOpcode::kFabrics);
  sqe.nsid = static_cast<uint32_t>(FabricsType::kConnect);
  sqe.cdw10 = record_format | (uint32_t{queue_id} << 16);
  sqe.cdw11 = queue_size | (uint32_t{attributes} << 16);
  sqe.cdw12 = keep_alive_ms;
}

Result<ConnectData> ConnectData::decode(ConstBytes data) {
  if (data.size() < kConnectDataBytes) {
    return error(Code::k_invalid_argument, "connect data of {} bytes, needed are {}", data.size(),
                 kConnectDataBytes);
  }
  ConnectData connect;
  connect.host.host_id = Uuid::from(data.first(16));
  connect.controller_id = load_le<uint16_t>(data.data() + kConnectDataControllerAt);
  BB_ASSIGN(connect.subsystem_nqn, name_field(data, kConnectDataSubsystemAt, "subsystem NQN"));
  BB_ASSIGN(connect.host.host_nqn, name_field(data, kConnectDataHostAt, "host NQN"));
  return connect;
}

void ConnectData::encode(Bytes into) const {
  BB_CHECK(into.size() >= kConnectDataBytes, "connect data in {} bytes", into.size());
  std::memset(into.data(), 0, kConnectDataBytes);
  std::memcpy(into.data(), host.host_id.bytes.data(), 16);
  store_le<uint16_t>(into.data() + kConnectDataControllerAt, controller_id);
  store_name(into, kConnectDataSubsystemAt, subsystem_nqn);
  store_name(into, kConnectDataHostAt, host.host_nqn);
}

uint32_t connect_invalid_parameter(uint16_t offset, bool in_data) {
  return offset | (in_data ? 1u << 16 : 0u);
}

Status check_nqn(std::string_view nqn) {
  if (nqn.empty() || nqn.size() > kNqnMaxBytes) {
    return error(Code::k_invalid_argument, "an NQN of {} bytes, allowed are 1 to {}", nqn.size(),
                 kNqnMaxBytes);
  }
  if (!nqn.starts_with("nqn.")) {
    return error(Code::k_invalid_argument, "an NQN that does not begin with \"nqn.\"");
  }
  for (char c : nqn) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return error(Code::k_invalid_argument, "an NQN with a control character");
    }
  }
  return {};
}

Capabilities Capabilities::decode(uint64_t cap) {
  return {.queue_entries_max =
              static_cast<uint16_t>((cap & 0xffff) == 0xffff ? 0xffff : (cap & 0xffff) + 1),
          .ready_timeout_ms = static_cast<uint32_t>((cap >> 24) & 0xff) * 500};
}

uint64_t Capabilities::encode() const {
  constexpr uint64_t kContiguous = 1u << 16;              // CQR: fabrics require it
  constexpr uint64_t kNvmCommandSet = uint64_t{1} << 37;  // CSS bit 0
  uint64_t timeout = std::min<uint64_t>(255, (ready_timeout_ms + 499) / 500);
  return (queue_entries_max - 1u) | kContiguous | (timeout << 24) | kNvmCommandSet;
}

}  // namespace bb::io::nvme
