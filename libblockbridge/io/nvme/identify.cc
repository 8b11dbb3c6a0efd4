// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/identify.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/units.h"
#include "io/nvme/ana.h"

namespace bb::io::nvme {
namespace {

constexpr uint32_t kPageBytes = 4096;
constexpr size_t kVendorAt = 3072;                            // of Identify Controller
constexpr uint64_t kFencesReconnect = 0x3165'636e'6566'6262;  // "bbfence1"

Bytes cleared(Bytes into) {
  BB_CHECK(into.size() >= kIdentifyBytes, "identify data in {} bytes", into.size());
  std::memset(into.data(), 0, kIdentifyBytes);
  return into;
}

// Text fields are padded with spaces, not terminated.
void store_padded(Bytes field, std::string_view text) {
  std::memset(field.data(), ' ', field.size());
  std::memcpy(field.data(), text.data(), std::min(text.size(), field.size()));
}

std::string load_padded(ConstBytes field) {
  std::string text(as_text(field));
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.pop_back();
  return text;
}

std::string load_terminated(ConstBytes field) {
  std::string_view text = as_text(field);
  return std::string(text.substr(0, text.find('\0')));
}

template <typename T>
void put(Bytes into, size_t at, T value) {
  store_le<T>(into.data() + at, value);
}

template <typename T>
T get(ConstBytes from, size_t at) {
  return load_le<T>(from.data() + at);
}

std::byte mdts_of(uint32_t transfer_max_bytes) {
  if (transfer_max_bytes == 0) return std::byte{0};
  uint32_t pages = std::max(2u, transfer_max_bytes / kPageBytes);  // 2^1 pages is the least
  return static_cast<std::byte>(std::bit_width(pages) - 1);
}

uint16_t zero_based(uint32_t count) {
  return static_cast<uint16_t>(std::min(std::max(count, 1u), 0x10000u) - 1);
}

Status short_data(ConstBytes data) {
  if (data.size() >= kIdentifyBytes) return {};
  return error(Code::k_io_error, "identify data of {} bytes instead of {}", data.size(),
               kIdentifyBytes);
}

}  // namespace

void ControllerInfo::encode(Bytes into) const {
  into = cleared(into);
  bool io = type == ControllerType::kIo;
  store_padded(into.subspan(4, 20), serial);
  store_padded(into.subspan(24, 40), model);
  store_padded(into.subspan(64, 8), firmware);
  into[72] = std::byte{6};  // RAB: a recommendation of 2^6 commands
  // CMIC: several ports, several controllers, and ANA.
  into[76] = static_cast<std::byte>((io ? 3 : 0) | (ana ? 8 : 0));
  into[77] = mdts_of(transfer_max_bytes);
  put<uint16_t>(into, 78, controller_id);
  put<uint32_t>(into, 80, version);
  put<uint32_t>(into, 92, async_events);
  put<uint32_t>(into, 96, attributes);
  into[111] = static_cast<std::byte>(type);
  into[258] = std::byte{3};  // ACL: 4 aborts at once
  into[259] = static_cast<std::byte>(std::max<int>(async_event_max, 1) - 1);  // AERL
  into[260] = std::byte{3};     // FRMW: one slot, read-only
  into[261] = std::byte{0x06};  // LPA: command effects, extended data
  into[262] = static_cast<std::byte>(std::max<int>(error_entries, 1) - 1);
  if (ana) {
    into[342] = static_cast<std::byte>(ana_transition_s);
    into[343] = std::byte{0x5f};  // ANACAP: all five states, and a namespace keeps its group
    put<uint32_t>(into, 344, kAnaGroupMax);
    put<uint32_t>(into, 348, kAnaGroupMax);
  }
  put<uint16_t>(into, 386, quiesce_ms);
  if (fences_reconnect) put<uint64_t>(into, kVendorAt, kFencesReconnect);
  put<uint16_t>(into, 320, static_cast<uint16_t>(keep_alive_granularity_ms / 100));
  into[512] = io ? std::byte{0x66} : std::byte{0};  // SQES
  into[513] = io ? std::byte{0x44} : std::byte{0};  // CQES
  put<uint16_t>(into, 514, command_max);
  put<uint32_t>(into, 516, namespace_max);
  put<uint16_t>(into, 520, optional_commands);
  put<uint16_t>(into, 522, fused_compare_write ? uint16_t{1} : uint16_t{0});
  into[525] = volatile_cache ? std::byte{0x07} : std::byte{0x06};  // flush may name all namespaces
  put<uint16_t>(into, 532, zero_based(compare_write_blocks));
  into[534] = (optional_commands & kOncsCopy) != 0 ? std::byte{1} : std::byte{0};  // OCFS: format 0
  // SGLs without alignment; an address may be an offset; transport data blocks.
  put<uint32_t>(into, 536, 1u | (1u << 20) | (1u << 21));
  put<uint32_t>(into, 540, namespace_max);  // MNAN
  std::memcpy(into.data() + 768, subsystem_nqn.data(),
              std::min(subsystem_nqn.size(), kNqnFieldBytes - 1));
  put<uint32_t>(into, 1792, capsule_bytes / 16);
  put<uint32_t>(into, 1796, response_bytes / 16);
  into[1803] = std::byte{1};                                          // MSDBD: one descriptor
  if (type == ControllerType::kDiscovery) into[1806] = std::byte{1};  // DCTYPE: direct discovery
}

Result<ControllerInfo> ControllerInfo::decode(ConstBytes data) {
  BB_TRY(short_data(data));
  ControllerInfo info;
  info.serial = load_padded(data.subspan(4, 20));
  info.model = load_padded(data.subspan(24, 40));
  info.firmware = load_padded(data.subspan(64, 8));
  auto mdts = static_cast<uint32_t>(data[77]);
  info.transfer_max_bytes = mdts == 0 || mdts > 19 ? 0 : kPageBytes << mdts;
  info.controller_id = get<uint16_t>(data, 78);
  info.version = get<uint32_t>(data, 80);
  info.async_events = get<uint32_t>(data, 92);
  info.attributes = get<uint32_t>(data, 96);
  info.type = static_cast<ControllerType>(data[111]);
  info.async_event_max = static_cast<uint8_t>(std::min(254, static_cast<int>(data[259])) + 1);
  info.error_entries = static_cast<uint8_t>(std::min(254, static_cast<int>(data[262])) + 1);
  info.keep_alive_granularity_ms =
      static_cast<uint16_t>(std::min(655, int{get<uint16_t>(data, 320)}) * 100);
  info.command_max = get<uint16_t>(data, 514);
  info.namespace_max = get<uint32_t>(data, 516);
  info.optional_commands = get<uint16_t>(data, 520);
  info.fused_compare_write = (get<uint16_t>(data, 522) & 1) != 0;
  info.compare_write_blocks = get<uint16_t>(data, 532) + 1u;
  info.volatile_cache = (data[525] & std::byte{1}) != std::byte{0};
  info.subsystem_nqn = load_terminated(data.subspan(768, kNqnFieldBytes));
  uint32_t capsule = get<uint32_t>(data, 1792);
  uint32_t response = get<uint32_t>(data, 1796);
  info.ana = (data[76] & std::byte{0x08}) != std::byte{0};
  info.ana_transition_s = static_cast<uint8_t>(data[342]);
  info.quiesce_ms = get<uint16_t>(data, 386);
  info.fences_reconnect = get<uint64_t>(data, kVendorAt) == kFencesReconnect;
  info.capsule_bytes = std::min(capsule, 1u << 20) * 16;
  info.response_bytes = std::min(response, 1u << 20) * 16;
  bool io = info.type == ControllerType::kIo || info.type == ControllerType::kNotReported;
  if (io && (capsule < 4 || response < 1)) {
    return error(Code::k_io_error,
                 "the controller takes capsules of {} and gives responses of {} units of 16 bytes, "
                 "needed are at least 4 and 1",
                 capsule, response);
  }
  return info;
}

void NamespaceInfo::encode(Bytes into) const {
  into = cleared(into);
  put<uint64_t>(into, 0, block_count);
  put<uint64_t>(into, 8, block_count);
  put<uint64_t>(into, 16, block_count);
  bool hints = physical_block_bytes > block_bytes;
  // NSFEAT: the atomic units and the granularities below are valid.
  into[24] = std::byte{0x02} | (hints ? std::byte{0x10} : std::byte{0});
  into[30] = std::byte{1};             // NMIC: may be seen by several controllers
  into[31] = std::byte{reservations};  // RESCAP
  if (hints) {
    uint32_t granule = physical_block_bytes / block_bytes - 1;
    for (size_t at = 64; at <= 72; at += 2) put<uint16_t>(into, at, static_cast<uint16_t>(granule));
  }
  put<uint16_t>(into, 38, zero_based(compare_write_blocks));  // NACWU; NAWUN and NAWUPF: a block
  put<uint16_t>(into, 74, static_cast<uint16_t>(std::min(copy_blocks, 0xffffu)));  // MSSRL
  put<uint32_t>(into, 76, std::min(copy_blocks, 0xffffu));                         // MCL
  into[80] = static_cast<std::byte>(kCopyRangesMax - 1);                           // MSRC
  put<uint32_t>(into, 92, ana_group);
  into[99] = read_only ? std::byte{1} : std::byte{0};
  std::memcpy(into.data() + 104, uuid.bytes.data(), 16);                // NGUID
  into[130] = static_cast<std::byte>(std::bit_width(block_bytes) - 1);  // LBAF 0: LBADS
}

void NamespaceInfo::encode_independent(Bytes into) const {
  into = cleared(into);
  into[1] = std::byte{1};
  into[2] = std::byte{reservations};
  put<uint32_t>(into, 4, ana_group);
  into[8] = read_only ? std::byte{1} : std::byte{0};
  into[14] = std::byte{1};  // NSTAT: ready
}

Result<NamespaceInfo> NamespaceInfo::decode(ConstBytes data) {
  BB_TRY(short_data(data));
  NamespaceInfo info;
  info.block_count = get<uint64_t>(data, 0);
  uint8_t flbas = static_cast<uint8_t>(data[26]);
  size_t format = (flbas & 0xfu) | ((flbas & 0x60u) >> 1);
  size_t at = 128 + 4 * format;
  uint16_t metadata_bytes = get<uint16_t>(data, at);
  auto shift = static_cast<uint32_t>(data[at + 2]);
  if (info.block_count == 0) return error(Code::k_not_found, "the namespace is not active");
  if (shift < 9 || shift > 12 || metadata_bytes != 0) {
    return error(Code::k_not_supported,
                 "blocks of 2^{} bytes with {} bytes of metadata; supported are 512 to 4096 bytes "
                 "without",
                 shift, metadata_bytes);
  }
  if (info.block_count > (uint64_t{1} << 63) >> shift) {
    return error(Code::k_not_supported, "{} blocks of 2^{} bytes are too many", info.block_count,
                 shift);
  }
  info.block_bytes = 1u << shift;
  info.physical_block_bytes = info.block_bytes;
  if ((data[24] & std::byte{0x10}) != std::byte{0}) {
    uint32_t granule = get<uint16_t>(data, 64) + 1u;
    info.physical_block_bytes = std::min(granule * info.block_bytes, 1u << 20);
  }
  info.reservations = static_cast<uint8_t>(data[31]);
  info.read_only = (data[99] & std::byte{1}) != std::byte{0};
  info.ana_group = get<uint32_t>(data, 92);
  info.uuid = Uuid::from(data.subspan(104, 16));
  return info;
}

void encode_command_set_controller(Bytes into, uint32_t verify_max_bytes) {
  into = cleared(into);
  into[0] = mdts_of(verify_max_bytes);  // VSL; the others are bounded by their commands
}

void NamespaceDescriptors::encode(Bytes into) const {
  into = cleared(into);
  size_t at = 0;
  if (!uuid.is_nil()) {
    for (std::byte type : {std::byte{2}, std::byte{3}}) {  // NGUID, UUID
      into[at] = type;
      into[at + 1] = std::byte{16};
      std::memcpy(into.data() + at + 4, uuid.bytes.data(), 16);
      at += 20;
    }
  }
  into[at] = std::byte{4};  // CSI: 0, the NVM command set
  into[at + 1] = std::byte{1};
}

NamespaceDescriptors NamespaceDescriptors::decode(ConstBytes data) {
  NamespaceDescriptors found;
  while (data.size() >= 4) {
    auto type = static_cast<uint8_t>(data[0]);
    auto length = static_cast<size_t>(data[1]);
    if (type == 0 || length == 0 || data.size() < 4 + length) break;
    if (type == 3 && length == 16) found.uuid = Uuid::from(data.subspan(4, 16));
    data = data.subspan(4 + length);
  }
  return found;
}

void encode_namespace_list(Bytes into, const std::vector<uint32_t>& nsids, uint32_t after) {
  into = cleared(into);
  size_t at = 0;
  for (uint32_t nsid : nsids) {
    if (nsid <= after || at == kIdentifyBytes) continue;
    put<uint32_t>(into, at, nsid);
    at += 4;
  }
}

std::vector<uint32_t> decode_namespace_list(ConstBytes data) {
  std::vector<uint32_t> nsids;
  for (size_t at = 0; at + 4 <= std::min(data.size(), kIdentifyBytes); at += 4) {
    uint32_t nsid = get<uint32_t>(data, at);
    if (nsid == 0) break;
    nsids.push_back(nsid);
  }
  return nsids;
}

}  // namespace bb::io::nvme
