// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/health.h"

#include <algorithm>
#include <limits>

#include "io/nvme/command.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kDataUnitBytes = 512'000;
constexpr int kKelvin = 273;
constexpr size_t kFormatsAt = 128;
constexpr size_t kFormatsMax = 64;

uint64_t counter(ConstBytes log, size_t at) {  // 128 bits
  uint64_t low = load_le<uint64_t>(log.data() + at);
  uint64_t high = load_le<uint64_t>(log.data() + at + 8);
  return high == 0 ? low : std::numeric_limits<uint64_t>::max();
}

uint64_t data_units(ConstBytes log, size_t at) {
  uint64_t units = counter(log, at);
  uint64_t most = std::numeric_limits<uint64_t>::max();
  return units > most / kDataUnitBytes ? most : units * kDataUnitBytes;
}

}  // namespace

Result<Health> Health::decode(ConstBytes log) {
  if (log.size() < kHealthLogBytes) {
    return error(Code::k_io_error, "a health log of {} bytes instead of {}", log.size(),
                 kHealthLogBytes);
  }
  Health health;
  health.critical_warning = static_cast<uint8_t>(log[0]);
  uint16_t kelvin = load_le<uint16_t>(log.data() + 1);
  if (kelvin != 0) health.temperature_celsius = kelvin - kKelvin;
  health.spare_percent = static_cast<uint8_t>(log[3]);
  health.spare_threshold_percent = static_cast<uint8_t>(log[4]);
  health.wear_percent = static_cast<uint8_t>(log[5]);
  health.read_bytes = data_units(log, 32);
  health.written_bytes = data_units(log, 48);
  health.power_cycles = counter(log, 112);
  health.power_on_hours = counter(log, 128);
  health.unsafe_shutdowns = counter(log, 144);
  health.media_errors = counter(log, 160);
  health.error_entries = counter(log, 176);
  return health;
}

std::vector<std::string_view> critical_warnings(uint8_t bits) {
  constexpr std::string_view kTexts[] = {"spare below threshold", "temperature beyond threshold",
                                         "reliability degraded",  "read-only",
                                         "memory backup failed",  "persistent memory unreliable"};
  std::vector<std::string_view> texts;
  for (size_t i = 0; i < std::size(kTexts); ++i) {
    if ((bits >> i & 1) != 0) texts.push_back(kTexts[i]);
  }
  if (bits >> std::size(kTexts) != 0) texts.emplace_back("unknown warning");
  return texts;
}

Result<std::vector<LbaFormat>> lba_formats(ConstBytes identify) {
  if (identify.size() < kIdentifyBytes) {
    return error(Code::k_io_error, "identify data of {} bytes instead of {}", identify.size(),
                 kIdentifyBytes);
  }
  auto flbas = static_cast<uint32_t>(identify[26]);
  size_t in_use = (flbas & 0xfu) | ((flbas & 0x60u) >> 1);
  size_t count = std::min<size_t>(static_cast<uint32_t>(identify[25]) + 1u, kFormatsMax);
  std::vector<LbaFormat> formats;
  for (size_t i = 0; i < count; ++i) {
    const std::byte* at = identify.data() + kFormatsAt + 4 * i;
    auto shift = static_cast<uint32_t>(at[2]);
    if (shift < 9 || shift > 31) shift = 0;  // not offered: kept, so that the numbers stay right
    formats.push_back({.data_bytes = shift == 0 ? 0 : 1u << shift,
                       .metadata_bytes = load_le<uint16_t>(at),
                       .performance = static_cast<uint8_t>(at[3] & std::byte{3}),
                       .in_use = i == in_use});
  }
  return formats;
}

bool is_simulated(uint16_t pci_vendor, std::string_view model) {
  constexpr uint16_t kEmulators[] = {0x1b36 /* QEMU */, 0x15ad /* VMware */,
                                     0x80ee /* VirtualBox */, 0x1414 /* Hyper-V */,
                                     0x4321 /* SPDK, vfio-user */};
  constexpr std::string_view kPrograms[] = {"QEMU", "Linux", "Blockbridge", "SPDK", "VMware"};
  if (std::ranges::find(kEmulators, pci_vendor) != std::end(kEmulators)) return true;
  return std::ranges::any_of(kPrograms,
                             [model](std::string_view name) { return model.starts_with(name); });
}

}  // namespace bb::io::nvme
