// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/local_inventory.h"

#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <libnvme.h>  // last: it defines macros of common names, such as round_up

namespace bb::io::nvme {
namespace {

struct FreeTree {
  void operator()(nvme_root* root) const { nvme_free_tree(root); }
};

std::string text_of(const char* text) {
  std::string trimmed = text == nullptr ? "" : text;
  while (!trimmed.empty() && trimmed.back() == ' ') trimmed.pop_back();
  return trimmed;
}

Status asked(std::string_view what, int rc) {
  if (rc == 0) return {};
  if (rc > 0) return error(Code::k_not_supported, "{}: NVMe status 0x{:03x}", what, rc);
  bool forbidden = errno == EACCES || errno == EPERM || errno == EBADF;
  return error(forbidden ? Code::k_permission_denied : Code::k_io_error, "{}: {}", what,
               forbidden ? "only root may ask the drive" : std::strerror(errno));
}

std::string uri_of(const std::string& name) {
  constexpr std::string_view kPrefix = "nvme";
  if (!std::string_view(name).starts_with(kPrefix)) return "";
  return "nvme:/dev/ng" + name.substr(kPrefix.size());
}

InventoryNamespace read_namespace(nvme_ns_t space, int controller_fd, Status* problem) {
  InventoryNamespace found;
  found.name = text_of(nvme_ns_get_name(space));
  found.uri = uri_of(found.name);
  found.nsid = static_cast<uint32_t>(nvme_ns_get_nsid(space));
  found.block_bytes = static_cast<uint32_t>(nvme_ns_get_lba_size(space));
  found.size_bytes = nvme_ns_get_lba_count(space) * found.block_bytes;
  alignas(4096) nvme_id_ns data{};
  Status status = asked("Identify Namespace", nvme_identify_ns(controller_fd, found.nsid, &data));
  if (status.ok()) {
    found.used_bytes = le64toh(data.nuse) * found.block_bytes;
    auto formats = lba_formats({reinterpret_cast<const std::byte*>(&data), sizeof data});
    status = formats.status();
    if (formats.ok()) found.formats = std::move(formats).value();
  }
  if (!status.ok() && problem->ok()) *problem = status;
  return found;
}

void read_health(int fd, InventoryDrive& drive) {
  alignas(4096) std::byte log[kHealthLogBytes] = {};
  static_assert(sizeof(nvme_smart_log) == kHealthLogBytes);
  int rc = nvme_get_log_smart(fd, NVME_NSID_ALL, true, reinterpret_cast<nvme_smart_log*>(log));
  Status status = asked("SMART / Health log", rc);
  if (!status.ok()) {
    if (drive.problem.ok()) drive.problem = status;
    return;
  }
  auto health = Health::decode(log);
  if (health.ok()) drive.health = *health;
}

InventoryDrive read_drive(nvme_subsystem_t subsystem, nvme_ctrl_t controller) {
  InventoryDrive drive;
  drive.name = text_of(nvme_ctrl_get_name(controller));
  drive.model = text_of(nvme_ctrl_get_model(controller));
  drive.serial = text_of(nvme_ctrl_get_serial(controller));
  drive.firmware = text_of(nvme_ctrl_get_firmware(controller));
  drive.transport = text_of(nvme_ctrl_get_transport(controller));
  drive.address = text_of(nvme_ctrl_get_address(controller));
  drive.subsystem_nqn = text_of(nvme_ctrl_get_subsysnqn(controller));
  drive.state = text_of(nvme_ctrl_get_state(controller));
  int fd = nvme_ctrl_get_fd(controller);
  alignas(4096) nvme_id_ctrl data{};
  drive.problem = asked("Identify Controller", nvme_identify_ctrl(fd, &data));
  drive.simulated = is_simulated(le16toh(data.vid), drive.model);
  nvme_ns_t space = nullptr;
  // With native multipath namespaces hang on the subsystem, otherwise on the controller.
  nvme_ctrl_for_each_ns(controller, space) {
    drive.namespaces.push_back(read_namespace(space, fd, &drive.problem));
  }
  nvme_subsystem_for_each_ns(subsystem, space) {
    drive.namespaces.push_back(read_namespace(space, fd, &drive.problem));
  }
  if (fd >= 0) read_health(fd, drive);
  return drive;
}

Json namespace_json(const InventoryNamespace& space) {
  Json formats = Json::array();
  for (size_t i = 0; i < space.formats.size(); ++i) {
    const LbaFormat& format = space.formats[i];
    if (format.data_bytes == 0) continue;
    formats.push_back(Json{{"number", i},
                           {"data_bytes", format.data_bytes},
                           {"metadata_bytes", format.metadata_bytes},
                           {"performance", format.performance},
                           {"in_use", format.in_use}});
  }
  return Json{{"name", space.name},
              {"uri", space.uri},
              {"nsid", space.nsid},
              {"size_bytes", space.size_bytes},
              {"used_bytes", space.used_bytes},
              {"block_bytes", space.block_bytes},
              {"formats", std::move(formats)}};
}

Json health_json(const Health& health) {
  Json warnings = Json::array();
  for (std::string_view text : critical_warnings(health.critical_warning)) {
    warnings.push_back(std::string(text));
  }
  Json json{{"warnings", std::move(warnings)},
            {"temperature_celsius", nullptr},
            {"spare_percent", health.spare_percent},
            {"spare_threshold_percent", health.spare_threshold_percent},
            {"wear_percent", health.wear_percent},
            {"read_bytes", health.read_bytes},
            {"written_bytes", health.written_bytes},
            {"power_cycles", health.power_cycles},
            {"power_on_hours", health.power_on_hours},
            {"unsafe_shutdowns", health.unsafe_shutdowns},
            {"media_errors", health.media_errors},
            {"error_entries", health.error_entries}};
  if (health.temperature_celsius) json["temperature_celsius"] = *health.temperature_celsius;
  return json;
}

}  // namespace

Result<std::vector<InventoryDrive>> list_local_drives() {
  std::vector<InventoryDrive> drives;
  if (::access("/sys/class/nvme", F_OK) != 0) return drives;  // no NVMe driver: no drives
  std::unique_ptr<nvme_root, FreeTree> root(nvme_scan(nullptr));
  if (root == nullptr) {
    return error(Code::k_io_error, "libnvme cannot read /sys/class/nvme: {}", std::strerror(errno));
  }
  nvme_host_t host = nullptr;
  nvme_subsystem_t subsystem = nullptr;
  nvme_ctrl_t controller = nullptr;
  nvme_for_each_host(root.get(), host) {
    nvme_for_each_subsystem(host, subsystem) {
      nvme_subsystem_for_each_ctrl(subsystem, controller) {
        drives.push_back(read_drive(subsystem, controller));
      }
    }
  }
  std::ranges::sort(drives, {}, &InventoryDrive::name);
  return drives;
}

Json to_json(const InventoryDrive& drive) {
  uint64_t capacity = 0;
  Json namespaces = Json::array();
  for (const InventoryNamespace& space : drive.namespaces) {
    capacity += space.size_bytes;
    namespaces.push_back(namespace_json(space));
  }
  return Json{{"name", drive.name},
              {"model", drive.model},
              {"serial", drive.serial},
              {"firmware", drive.firmware},
              {"transport", drive.transport},
              {"address", drive.address},
              {"subsystem_nqn", drive.subsystem_nqn},
              {"state", drive.state},
              {"source", drive.simulated ? "simulated" : "hardware"},
              {"capacity_bytes", capacity},
              {"namespaces", std::move(namespaces)},
              {"health", drive.health ? health_json(*drive.health) : Json(nullptr)},
              {"problem", drive.problem.ok() ? Json(nullptr) : Json(drive.problem.text())}};
}

}  // namespace bb::io::nvme
