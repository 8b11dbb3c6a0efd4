// SPDX-License-Identifier: Apache-2.0
#include "backplane/config.h"

#include <algorithm>
#include <set>

#include "backplane/drive_label.h"
#include "backplane/yaml_reader.h"
#include "base/units.h"
#include "base/uri.h"

namespace bb::backplane {
namespace {

constexpr size_t kNodeNameMaxBytes = kNameMaxBytes;

// "/path" and "path" are files; "scheme:…" is a device of another kind.
std::string device_uri(const std::string& path) {
  size_t colon = path.find(':');
  size_t slash = path.find('/');
  if (colon != std::string::npos && (slash == std::string::npos || colon < slash)) return path;
  return "file:" + path;
}

Status check_address(const std::string& address) {
  if (address.starts_with("unix:")) {
    if (address.size() == 5) return error(Code::k_invalid_argument, "\"unix:\" without a path");
    return ok_status();
  }
  return detail::as_status(HostPort::parse(address));
}

Status check_addresses(YamlMap& map, std::string_view key, const std::vector<std::string>& list) {
  for (const std::string& address : list)
    if (Status status = check_address(address); !status.ok()) return map.at(key, status);
  return ok_status();
}

Result<DriveConfig> parse_drive(YamlMap& map, size_t number) {
  DriveConfig drive;
  drive.uri = device_uri(map.text("path", true));
  drive.slot = map.text("slot", false, kNameMaxBytes);
  drive.serial = map.text("serial", false, kSerialMaxBytes);
  drive.model = map.text("model", false, kModelMaxBytes);
  drive.create_bytes = map.size_bytes("create");
  BB_TRY(map.finish());
  if (drive.slot.empty()) drive.slot = std::to_string(number);
  if (drive.create_bytes != 0 && drive.create_bytes % 4096 != 0)
    return map.at("create", error(Code::k_invalid_argument, "{} bytes is not a multiple of 4096",
                                  drive.create_bytes));
  if (drive.create_bytes != 0 && drive.create_bytes < kDriveSizeMinBytes)
    return map.at("create", error(Code::k_invalid_argument, "{} bytes is too small (min {})",
                                  drive.create_bytes, kDriveSizeMinBytes));
  if (Result<Uri> uri = Uri::parse(drive.uri); !uri.ok()) return map.at("path", uri.status());
  return drive;
}

Status parse_drives(YamlMap& map, std::vector<DriveConfig>* drives) {
  std::set<std::string> slots, uris;
  for (YamlMap& one : map.maps("drives", kConfigDrivesMax)) {
    BB_ASSIGN(DriveConfig drive, parse_drive(one, drives->size()));
    if (!slots.insert(drive.slot).second)
      return one.at("slot",
                    error(Code::k_invalid_argument, "slot \"{}\" is there twice", drive.slot));
    if (!uris.insert(drive.uri).second)
      return one.at("path", error(Code::k_invalid_argument, "{} is there twice", drive.uri));
    drives->push_back(std::move(drive));
  }
  return ok_status();
}

// "30d" too, which a time of waiting hardly is.
Result<uint64_t> parse_every_ns(std::string_view text) {
  constexpr uint64_t kDaysMax = 3650;
  if (!text.ends_with('d')) return parse_duration_ns(text);
  BB_ASSIGN(uint64_t days, parse_u64(text.substr(0, text.size() - 1), kDaysMax));
  return days * 24 * 60 * 60 * kNsPerSecond;
}

Status parse_scrub(YamlMap& map, DataplaneConfig* config) {
  std::optional<YamlMap> scrub = map.map("scrub");
  if (!scrub) return ok_status();
  std::string every = scrub->text("every");
  std::string window = scrub->text("window");
  config->scrub_bytes_per_second = scrub->size_bytes("rate");
  BB_TRY(scrub->finish());
  if (!every.empty()) {
    Result<uint64_t> after = parse_every_ns(every);
    if (!after.ok()) return scrub->at("every", after.status());
    config->scrub.every_ns = *after;
  }
  if (!window.empty()) {
    Status status = parse_scrub_window(window, &config->scrub);
    if (!status.ok()) return scrub->at("window", status);
  }
  return ok_status();
}

}  // namespace

Result<DiskNodeConfig> parse_disknode_config(std::string_view text, std::string_view file) {
  BB_ASSIGN(YamlMap map, load_yaml_map(text, file, kConfigTextMaxBytes));
  DiskNodeConfig config;
  config.name = map.text("name", true, kNodeNameMaxBytes);
  config.domain = map.text("domain", false, kNodeNameMaxBytes);
  config.enclosure = map.text("enclosure", false, kNodeNameMaxBytes);
  config.listen = map.texts("listen", kConfigListMax);
  config.control = map.text("control", true);
  config.insecure_control = map.boolean("insecure_control");
  config.hosts = map.texts("hosts", kConfigListMax);
  BB_TRY(parse_drives(map, &config.drives));
  BB_TRY(map.finish());
  if (config.domain.empty()) config.domain = config.name;
  if (config.enclosure.empty()) config.enclosure = config.name;
  if (config.listen.empty())
    return map.at("listen", error(Code::k_invalid_argument, "no address to listen at"));
  BB_TRY(check_addresses(map, "listen", config.listen));
  BB_TRY(check_addresses(map, "control", {config.control}));
  for (const std::string& host : config.hosts)
    if (!host.starts_with("nqn.") || host.size() > kHostNqnMaxBytes)
      return map.at("hosts", error(Code::k_invalid_argument,
                                   "\"{}\" is not an NQN (\"nqn.…\", up to {} bytes)", host,
                                   kHostNqnMaxBytes));
  return config;
}

Result<DataplaneConfig> parse_dataplane_config(std::string_view text, std::string_view file) {
  BB_ASSIGN(YamlMap map, load_yaml_map(text, file, kConfigTextMaxBytes));
  DataplaneConfig config;
  config.name = map.text("name", true, kNodeNameMaxBytes);
  std::string host = map.text("host");
  config.store = map.text("store", true);
  config.control = map.text("control", true);
  config.nvme_listen = map.texts("nvme_tcp", kConfigListMax);
  config.nbd_listen = map.texts("nbd", kConfigListMax);
  std::string slow_fail = map.text("slow_fail");
  BB_TRY(parse_scrub(map, &config));
  std::set<std::string> names;
  for (YamlMap& one : map.maps("backplanes", kConfigListMax)) {
    BackplaneConfig backplane;
    backplane.name = one.text("name", true, kNodeNameMaxBytes);
    backplane.control = one.text("control", true);
    BB_TRY(one.finish());
    BB_TRY(check_addresses(one, "control", {backplane.control}));
    if (!names.insert(backplane.name).second)
      return one.at("name", error(Code::k_invalid_argument, "backplane \"{}\" is there twice",
                                  backplane.name));
    config.backplanes.push_back(std::move(backplane));
  }
  BB_TRY(map.finish());
  if (!host.empty()) {
    Result<Uuid> uuid = Uuid::parse(host);
    if (!uuid.ok()) return map.at("host", uuid.status());
    config.host = *uuid;
  }
  if (!slow_fail.empty()) {
    Result<uint64_t> after = parse_duration_ns(slow_fail);
    if (!after.ok()) return map.at("slow_fail", after.status());
    config.slow_fail_ns = *after;
  }
  if (Result<Uri> uri = Uri::parse(config.store); !uri.ok()) return map.at("store", uri.status());
  BB_TRY(check_addresses(map, "control", {config.control}));
  BB_TRY(check_addresses(map, "nvme_tcp", config.nvme_listen));
  BB_TRY(check_addresses(map, "nbd", config.nbd_listen));
  return config;
}

}  // namespace bb::backplane
