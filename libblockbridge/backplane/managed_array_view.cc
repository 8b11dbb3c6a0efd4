// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <set>

#include "backplane/managed_array.h"
#include "base/units.h"
#include "io/stats_collect.h"
#include "raid/explain.h"
#include "raid/member_json.h"

namespace bb::backplane {
namespace {

Json describe_resync(const raid::ArrayInfo& info) {
  Json json = {{"total_bytes", info.resync_total_bytes},
               {"done_bytes", info.resync_done_bytes},
               {"written_bytes", info.resynced_bytes},
               {"text", ""}};
  if (info.resync_total_bytes > 0)
    json["text"] = fmt::format("resynced {} of {} dirty", format_size_bytes(info.resync_done_bytes),
                               format_size_bytes(info.resync_total_bytes));
  return json;
}

Json describe_member(const raid::ArrayMemberInfo& member) {
  Json json = {{"uuid", member.uuid.to_string()},
               {"member_slot", member.slot},
               {"state", raid::member_state_name(member.state)},
               {"generation", member.generation},
               {"label", member.label},
               {"detail", member.detail},
               {"present", member.present},
               {"suspect", member.suspect},
               {"slow", member.slow},
               {"behind_bytes", member.behind_bytes}};
  json.update(raid::encode_member_counters(member));
  return json;
}

Json describe_scrub_of(const raid::Array* array) {
  return raid::describe_scrub(array != nullptr ? array->scrub_info() : raid::ScrubInfo());
}

}  // namespace

// The record as `array.info` answers it.
Json ManagedArray::describe() const {
  const ArrayRecord& record = entry_.record;
  Json json = {{"name", record.name},
               {"uuid", record.uuid.to_string()},
               {"raid", raid::shape_text(record.shape)},
               {"level", record.shape.level->name},
               {"copies", record.shape.copies},
               {"chunk_bytes", record.shape.chunk_bytes},
               {"query", record.query},
               {"spread", record.spread},
               {"epoch", record.epoch},
               {"state", "starting"},
               {"detail", trouble_},
               {"members_wanted", record.shape.members},
               {"members_in_sync", 0}};
  raid::ArrayInfo info;
  if (array_ != nullptr) {
    info = array_->describe();
    json["state"] = info.state;
    json["detail"] = info.detail.empty() ? trouble_ : info.detail;
    json["reason"] = info.reason;
    json["version"] = info.version;
    json["left_out"] = info.left_out;
  } else if (!trouble_.empty()) {
    json["state"] = "recover";
  }
  json["capacity_bytes"] = info.size_bytes;
  json["explanation"] = array_ != nullptr ? raid::explain(info) : std::vector<std::string>();
  if (!trouble_.empty()) json["explanation"].push_back("It is not running: " + trouble_);
  json["integrity"] = array_ != nullptr ? raid::integrity_name(info.integrity) : "";
  json["scrub"] = describe_scrub_of(array_.get());
  json["region_size_bytes"] = info.region_size_bytes;
  json["regions"] = info.regions;
  json["dirty_regions"] = info.dirty_regions;
  json["resync"] = describe_resync(info);
  Json members = Json::array();
  std::set<const Slot*> shown;
  std::set<std::string> domains;
  uint64_t in_sync = 0;
  auto place = [&](Json entry, const Slot* slot) {
    if (slot != nullptr) {
      BackplaneClient* backplane = services_.backplanes->locate(slot->drive.uuid);
      entry["drive"] = drive_id(slot->drive.uuid);
      entry["place"] = slot->drive.place;
      entry["backplane"] = slot->drive.backplane;
      entry["held_out"] = slot->drive.held_out;
      entry["connected"] =
          slot->device != nullptr && slot->device->state() == io::DeviceState::kReady;
      entry["disk_node"] = backplane != nullptr ? backplane->report().name : slot->drive.backplane;
      entry["domain"] = backplane != nullptr ? backplane->report().domain : "";
      if (backplane != nullptr) domains.insert(backplane->report().domain);
      if (entry["detail"].get<std::string>().empty()) entry["detail"] = slot->trouble;
      shown.insert(slot);
    }
    members.push_back(std::move(entry));
  };
  for (const raid::ArrayMemberInfo& member : info.members) {
    if (member.state == raid::MemberState::kInSync) ++in_sync;
    place(describe_member(member), slot_of_member(member));
  }
  if (array_ == nullptr)
    for (const auto& slot : slots_)
      if (!shown.contains(slot.get()))
        place({{"state", slot->device != nullptr ? "connected" : "absent"}, {"detail", ""}},
              slot.get());
  json["members_in_sync"] = in_sync;
  json["domains"] = domains.size();
  json["members"] = std::move(members);
  return json;
}

void ManagedArray::collect(io::StatsReport* into) const {
  if (array_ != nullptr) io::collect_device(*array_, into);
  for (const auto& slot : slots_) {
    if (slot->device != nullptr) io::collect_device(*slot->device, into);
  }
}

}  // namespace bb::backplane
