// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/log_page.h"

#include <algorithm>

#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr std::byte kTransportTcp{3};
constexpr std::byte kReferral{1};
constexpr std::byte kSubsystemNvme{2};

template <typename T>
void put(LogData& into, size_t at, T value) {
  store_le<T>(into.data() + at, value);
}

void put_text(LogData& into, size_t at, size_t room, std::string_view text) {
  std::memcpy(into.data() + at, text.data(), std::min(text.size(), room - 1));
}

std::string get_text(ConstBytes field) {
  std::string_view text = as_text(field);
  text = text.substr(0, text.find('\0'));
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return std::string(text);
}

}  // namespace

LogData encode_error_log(const std::vector<ErrorEntry>& newest_first) {
  LogData data(std::max<size_t>(newest_first.size(), 1) * kErrorEntryBytes);
  size_t at = 0;
  for (const ErrorEntry& entry : newest_first) {
    put<uint64_t>(data, at, entry.count);
    put<uint16_t>(data, at + 8, entry.queue_id);
    put<uint16_t>(data, at + 10, entry.command_id);
    put<uint16_t>(data, at + 12, static_cast<uint16_t>(static_cast<uint16_t>(entry.status) << 1));
    put<uint16_t>(data, at + 14, 0xffff);  // no particular byte of the command
    put<uint64_t>(data, at + 16, entry.first_block);
    put<uint32_t>(data, at + 24, entry.nsid);
    at += kErrorEntryBytes;
  }
  return data;
}

// What a block device cannot know (temperature, wear, hours) stays zero: not reported.
LogData encode_smart_log(const SmartLog& log) {
  LogData data(512);
  data[3] = std::byte{100};                                  // available spare, percent
  put<uint64_t>(data, 32, div_up(log.bytes_read, 512'000));  // units of 1000 * 512 bytes
  put<uint64_t>(data, 48, div_up(log.bytes_written, 512'000));
  put<uint64_t>(data, 64, log.reads);
  put<uint64_t>(data, 80, log.writes);
  put<uint64_t>(data, 160, log.media_errors);
  put<uint64_t>(data, 176, log.error_entries);
  return data;
}

LogData encode_firmware_log(std::string_view revision) {
  LogData data(512);
  data[0] = std::byte{1};  // slot 1 is active
  std::memset(data.data() + 8, ' ', 8);
  std::memcpy(data.data() + 8, revision.data(), std::min<size_t>(revision.size(), 8));
  return data;
}

LogData encode_changed_namespaces(const std::vector<uint32_t>& nsids) {
  LogData data(4096);
  for (size_t i = 0; i < std::min<size_t>(nsids.size(), 1024); ++i) put(data, 4 * i, nsids[i]);
  return data;
}

LogData encode_supported_pages(const std::vector<LogId>& pages) {
  LogData data(1024);
  for (LogId page : pages) put<uint32_t>(data, 4 * static_cast<size_t>(page), 1);
  return data;
}

LogData encode_features_supported(std::span<const FeatureId> features) {
  LogData data(1024);
  for (FeatureId feature : features) put<uint32_t>(data, 4 * static_cast<size_t>(feature), 1);
  return data;
}

LogData encode_command_effects(const std::vector<AdminOpcode>& admin,
                               const std::vector<IoOpcode>& io) {
  constexpr uint32_t kSupported = 1;
  constexpr uint32_t kChangesContent = 2;
  LogData data(4096);
  for (AdminOpcode opcode : admin) put(data, 4 * static_cast<size_t>(opcode), kSupported);
  for (IoOpcode opcode : io) {
    bool changes = opcode == IoOpcode::kWrite || opcode == IoOpcode::kWriteZeroes ||
                   opcode == IoOpcode::kDatasetManagement || opcode == IoOpcode::kCopy;
    put(data, 1024 + 4 * static_cast<size_t>(opcode), kSupported | (changes ? kChangesContent : 0));
  }
  return data;
}

LogData encode_ana_log(uint64_t change_count, const std::vector<AnaGroup>& groups) {
  size_t bytes = kAnaHeaderBytes;
  for (const AnaGroup& group : groups) bytes += kAnaGroupBytes + 4 * group.nsids.size();
  LogData data(bytes);
  put<uint64_t>(data, 0, change_count);
  put<uint16_t>(data, 8, static_cast<uint16_t>(groups.size()));
  size_t at = kAnaHeaderBytes;
  for (const AnaGroup& group : groups) {
    put<uint32_t>(data, at, group.id);
    put<uint32_t>(data, at + 4, static_cast<uint32_t>(group.nsids.size()));
    put<uint64_t>(data, at + 8, group.change_count);
    data[at + 16] = static_cast<std::byte>(group.state);
    at += kAnaGroupBytes;
    for (uint32_t nsid : group.nsids) {
      put<uint32_t>(data, at, nsid);
      at += 4;
    }
  }
  return data;
}

LogData encode_discovery_log(uint64_t generation, const std::vector<DiscoveryEntry>& entries) {
  LogData data((entries.size() + 1) * kDiscoveryEntryBytes);
  put<uint64_t>(data, 0, generation);
  put<uint64_t>(data, 8, entries.size());
  size_t at = kDiscoveryEntryBytes;
  for (const DiscoveryEntry& entry : entries) {
    data[at] = kTransportTcp;
    data[at + 1] = entry.ipv6 ? std::byte{2} : std::byte{1};
    data[at + 2] = kSubsystemNvme;
    data[at + 3] = std::byte{4};  // TREQ: queue flow control may be disabled
    put<uint16_t>(data, at + 4, entry.port_id);
    put<uint16_t>(data, at + 6, kControllerIdAny);
    put<uint16_t>(data, at + 8, entry.admin_queue_size);
    put_text(data, at + 32, 32, entry.port);
    put_text(data, at + 256, 256, entry.subsystem_nqn);
    put_text(data, at + 512, 256, entry.address);
    at += kDiscoveryEntryBytes;
  }
  return data;
}

Result<DiscoveryLog> decode_discovery_log(ConstBytes data) {
  if (data.size() < kDiscoveryEntryBytes) {
    return error(Code::k_io_error, "a discovery log of {} bytes, at least {} are needed",
                 data.size(), kDiscoveryEntryBytes);
  }
  DiscoveryLog log;
  log.generation = load_le<uint64_t>(data.data());
  log.record_count = load_le<uint64_t>(data.data() + 8);
  uint64_t there = std::min<uint64_t>(log.record_count, data.size() / kDiscoveryEntryBytes - 1);
  for (uint64_t i = 0; i < there; ++i) {
    ConstBytes record = data.subspan((i + 1) * kDiscoveryEntryBytes, kDiscoveryEntryBytes);
    if (record[0] != kTransportTcp) continue;
    if (record[2] != kSubsystemNvme && record[2] != kReferral) continue;
    auto& list = record[2] == kReferral ? log.referrals : log.entries;
    list.push_back({.subsystem_nqn = get_text(record.subspan(256, 256)),
                    .address = get_text(record.subspan(512, 256)),
                    .port = get_text(record.subspan(32, 32)),
                    .ipv6 = record[1] == std::byte{2},
                    .port_id = load_le<uint16_t>(record.data() + 4),
                    .admin_queue_size = load_le<uint16_t>(record.data() + 8)});
  }
  return log;
}

}  // namespace bb::io::nvme
