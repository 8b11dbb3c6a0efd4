// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "capi/handle.h"
#include "io/nvme/local_inventory.h"

namespace capi = bb::capi;
namespace nvme = bb::io::nvme;

int bb_local_drive_list(char** json) {
  if (json == nullptr) return capi::invalid("bb_local_drive_list: json is NULL");
  *json = nullptr;
  auto drives = nvme::list_local_drives();
  if (!drives.ok()) return capi::code_of(drives.status());
  bb::Json list = bb::Json::array();
  for (const nvme::InventoryDrive& drive : *drives) list.push_back(nvme::to_json(drive));
  *json = capi::copy_text(bb::dump_json(list));
  return BB_OK;
}
