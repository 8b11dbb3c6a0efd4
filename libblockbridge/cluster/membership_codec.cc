// SPDX-License-Identifier: Apache-2.0
// pure: values only
#include "cluster/membership_codec.h"

#include <nlohmann/json.hpp>

namespace bb::cluster {
namespace {

constexpr uint64_t kFormat = 3;
constexpr uint64_t kFormatUnchecked = 2;  // knows no integrity, and is written where there is none

Result<Uuid> uuid_field(JsonFields* fields, std::string_view key) {
  BB_ASSIGN(std::string text, fields->text(key, 64));
  return Uuid::parse(text);
}

Result<raid::MemberRecord> decode_member(const Json& value) {
  raid::MemberRecord member;
  BB_ASSIGN(JsonFields fields, JsonFields::of(value, "member"));
  BB_ASSIGN(member.uuid, uuid_field(&fields, "uuid"));
  BB_ASSIGN(std::string state_name, fields.text("state", 32));
  auto state = raid::member_state_from_name(state_name);
  if (!state.has_value()) {
    return error(Code::k_invalid_argument, "member: unknown state \"{}\"", state_name);
  }
  member.state = *state;
  BB_ASSIGN(member.generation, fields.u64("generation"));
  BB_ASSIGN(uint64_t slot, fields.u64("slot", UINT32_MAX));
  member.slot = static_cast<uint32_t>(slot);
  BB_ASSIGN(member.label, fields.text("label", raid::kLabelMaxBytes));
  BB_TRY(fields.reject_unknown());
  return member;
}

Result<MembershipChange> decode(std::string_view text) {
  if (text.size() > kMembershipBytesMax) {
    return error(Code::k_invalid_argument, "{} bytes, allowed are {}", text.size(),
                 kMembershipBytesMax);
  }
  BB_ASSIGN(Json value, parse_json(text, 8));
  BB_ASSIGN(JsonFields fields, JsonFields::of(value, "record"));
  BB_ASSIGN(uint64_t format, fields.u64("format"));
  if (format != kFormat && format != kFormatUnchecked) {
    return error(Code::k_invalid_argument, "format {}, this program knows {} and {}", format,
                 kFormatUnchecked, kFormat);
  }
  MembershipChange change;
  raid::MembershipRecord& record = change.record;
  BB_ASSIGN(record.array, uuid_field(&fields, "array"));
  BB_ASSIGN(record.name, fields.text("name", raid::kNameMaxBytes));
  BB_ASSIGN(record.version, fields.u64("version"));
  BB_ASSIGN(record.epoch, fields.u64("epoch"));
  BB_ASSIGN(uint64_t level, fields.u64("level", UINT32_MAX));
  record.level = static_cast<raid::RaidLevel>(level);
  BB_ASSIGN(uint64_t slots, fields.u64("slots", raid::kMembersMax));
  record.slots = static_cast<uint32_t>(slots);
  BB_ASSIGN(uint64_t copies, fields.u64("copies", raid::kMembersMax));
  record.copies = static_cast<uint32_t>(copies);
  BB_ASSIGN(record.chunk_bytes, fields.u64("chunk_bytes"));
  BB_ASSIGN(record.member_bytes, fields.u64("member_bytes"));
  BB_ASSIGN(record.size_bytes, fields.u64("size_bytes"));
  BB_ASSIGN(record.data_offset_bytes, fields.u64("data_offset_bytes"));
  BB_ASSIGN(uint64_t block_size, fields.u64("block_size_bytes", UINT32_MAX));
  record.block_size_bytes = static_cast<uint32_t>(block_size);
  BB_ASSIGN(record.region_size_bytes, fields.u64("region_size_bytes"));
  if (format == kFormat) {
    BB_ASSIGN(std::string name, fields.text("integrity", 32));
    BB_ASSIGN(auto integrity, raid::integrity_from_name(name));
    record.integrity = integrity.value_or(raid::Integrity::kNone);
  }
  BB_ASSIGN(record.reason, fields.text("reason", raid::kReasonMaxBytes));
  BB_ASSIGN(change.wall_ns, fields.u64_or("wall_ns", 0));
  BB_ASSIGN(const Json* members, fields.list("members", raid::kMembersListedMax));
  BB_TRY(fields.reject_unknown());
  for (const Json& entry : *members) {
    BB_ASSIGN(raid::MemberRecord member, decode_member(entry));
    record.members.push_back(std::move(member));
  }
  BB_TRY(raid::validate_record(record));
  return change;
}

}  // namespace

Json membership_to_json(const raid::MembershipRecord& record) {
  Json members = Json::array();
  for (const raid::MemberRecord& member : record.members) {
    members.push_back({{"uuid", member.uuid.to_string()},
                       {"state", raid::member_state_name(member.state)},
                       {"generation", member.generation},
                       {"slot", member.slot},
                       {"label", member.label}});
  }
  bool checked = record.integrity != raid::Integrity::kNone;
  Json json = {{"format", checked ? kFormat : kFormatUnchecked},
               {"array", record.array.to_string()},
               {"name", record.name},
               {"version", record.version},
               {"epoch", record.epoch},
               {"level", static_cast<uint32_t>(record.level)},
               {"slots", record.slots},
               {"copies", record.copies},
               {"chunk_bytes", record.chunk_bytes},
               {"member_bytes", record.member_bytes},
               {"size_bytes", record.size_bytes},
               {"data_offset_bytes", record.data_offset_bytes},
               {"block_size_bytes", record.block_size_bytes},
               {"region_size_bytes", record.region_size_bytes},
               {"members", std::move(members)},
               {"reason", record.reason}};
  if (checked) json["integrity"] = raid::integrity_name(record.integrity);
  return json;
}

std::string encode_membership(const raid::MembershipRecord& record, uint64_t wall_ns) {
  Json value = membership_to_json(record);
  if (wall_ns != 0) value["wall_ns"] = wall_ns;
  return dump_json(value);
}

Result<MembershipChange> decode_membership(std::string_view text) {
  Result<MembershipChange> change = decode(text);
  if (change.ok()) return change;
  return error(Code::k_corrupt, "membership record: {}", change.status().text());
}

}  // namespace bb::cluster
