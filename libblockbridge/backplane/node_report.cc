// SPDX-License-Identifier: Apache-2.0
#include "backplane/node_report.h"

#include <nlohmann/json.hpp>

#include "backplane/config.h"

namespace bb::backplane {
namespace {

constexpr size_t kTextMaxBytes = 1024;

// A uuid field that may be empty: nil then.
Result<Uuid> take_uuid(JsonFields& fields, std::string_view key, bool required) {
  BB_ASSIGN(std::string text, fields.text_or(key, "", kTextMaxBytes));
  if (text.empty() && !required) return Uuid{};
  Result<Uuid> uuid = Uuid::parse(text);
  if (!uuid.ok()) return uuid.status().with_context(key);
  return uuid;
}

Result<Claim> decode_claim(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "claim"));
  Claim claim;
  BB_ASSIGN(std::string state, fields.text("state", 16));
  if (state != "free" && state != "owned")
    return error(Code::k_invalid_argument, "claim: state \"{}\" is neither free nor owned", state);
  claim.owned = state == "owned";
  if (!claim.owned) return claim;
  BB_ASSIGN(claim.owner, take_uuid(fields, "owner", true));
  BB_ASSIGN(claim.owner_name, fields.text_or("owner_name", "", kNameMaxBytes));
  BB_ASSIGN(claim.host_nqn, fields.text("host_nqn", kHostNqnMaxBytes));
  BB_ASSIGN(claim.epoch, fields.u64("epoch"));
  BB_ASSIGN(claim.array, take_uuid(fields, "array", false));
  BB_ASSIGN(claim.array_name, fields.text_or("array_name", "", kNameMaxBytes));
  return claim;
}

Status decode_addresses(JsonFields& fields, std::vector<std::string>* addresses) {
  BB_ASSIGN(const Json* list, fields.list("nvme", kConfigListMax));
  for (const Json& one : *list) {
    if (!one.is_string() || one.get_ref<const std::string&>().size() > kTextMaxBytes)
      return error(Code::k_invalid_argument, "node: an address that is not a text");
    addresses->push_back(one.get<std::string>());
  }
  return ok_status();
}

}  // namespace

Result<Uuid> parse_drive_id(std::string_view text) {
  std::string_view rest = text.starts_with("drv-") ? text.substr(4) : text;
  Result<Uuid> uuid = Uuid::parse(rest);
  if (!uuid.ok())
    return error(Code::k_invalid_argument, "\"{}\" is not a drive id (\"drv-\" and a uuid)",
                 text.substr(0, 64));
  return uuid;
}

Json encode_claim(const Claim& claim) {
  if (!claim.owned) return {{"state", "free"}};
  return {{"state", "owned"},
          {"owner", claim.owner.to_string()},
          {"owner_name", claim.owner_name},
          {"host_nqn", claim.host_nqn},
          {"epoch", claim.epoch},
          {"array", claim.array.is_nil() ? "" : claim.array.to_string()},
          {"array_name", claim.array_name}};
}

Json encode_node_drive(const NodeDrive& drive) {
  return {{"id", drive_id(drive.uuid)},
          {"nqn", drive_nqn(drive.uuid)},
          {"serial", drive.serial},
          {"model", drive.model},
          {"slot", drive.slot},
          {"capacity_bytes", drive.capacity_bytes},
          {"block_size_bytes", drive.block_size_bytes},
          {"state", drive.state},
          {"detail", drive.detail},
          {"errors", drive.errors},
          {"claim", encode_claim(drive.claim)}};
}

Json encode_node_report(const NodeReport& report) {
  Json drives = Json::array();
  for (const NodeDrive& drive : report.drives) drives.push_back(encode_node_drive(drive));
  Json refused = Json::array();
  for (const RefusedDrive& one : report.refused)
    refused.push_back({{"slot", one.slot}, {"uri", one.uri}, {"reason", one.reason}});
  return {{"protocol", kControlProtocol},  {"name", report.name}, {"domain", report.domain},
          {"enclosure", report.enclosure}, {"nvme", report.nvme}, {"drives", std::move(drives)},
          {"refused", std::move(refused)}};
}

Result<NodeDrive> decode_node_drive(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "drive"));
  NodeDrive drive;
  BB_ASSIGN(std::string id, fields.text("id", kTextMaxBytes));
  BB_ASSIGN(drive.uuid, parse_drive_id(id));
  BB_ASSIGN(drive.serial, fields.text_or("serial", "", kTextMaxBytes));
  BB_ASSIGN(drive.model, fields.text_or("model", "", kTextMaxBytes));
  BB_ASSIGN(drive.slot, fields.text_or("slot", "", kTextMaxBytes));
  BB_ASSIGN(drive.capacity_bytes, fields.u64("capacity_bytes"));
  BB_ASSIGN(uint64_t block, fields.u64("block_size_bytes", 65536));
  drive.block_size_bytes = static_cast<uint32_t>(block);
  BB_ASSIGN(drive.state, fields.text("state", 16));
  BB_ASSIGN(drive.detail, fields.text_or("detail", "", kTextMaxBytes));
  BB_ASSIGN(drive.errors, fields.u64_or("errors", 0));
  BB_ASSIGN(const Json* claim, fields.object("claim"));
  BB_ASSIGN(drive.claim, decode_claim(*claim));
  return drive;
}

Result<NodeReport> decode_node_report(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "node"));
  NodeReport report;
  BB_ASSIGN(uint64_t protocol, fields.u64("protocol"));
  if (protocol != kControlProtocol)
    return error(Code::k_not_supported, "node: control protocol {} (this program speaks {})",
                 protocol, kControlProtocol);
  BB_ASSIGN(report.name, fields.text("name", kNameMaxBytes));
  BB_ASSIGN(report.domain, fields.text("domain", kNameMaxBytes));
  BB_ASSIGN(report.enclosure, fields.text("enclosure", kNameMaxBytes));
  BB_TRY(decode_addresses(fields, &report.nvme));
  BB_ASSIGN(const Json* drives, fields.list("drives", kConfigDrivesMax));
  for (const Json& one : *drives) {
    BB_ASSIGN(NodeDrive drive, decode_node_drive(one));
    report.drives.push_back(std::move(drive));
  }
  BB_ASSIGN(const Json* refused, fields.list("refused", kConfigDrivesMax));
  for (const Json& one : *refused) {
    BB_ASSIGN(JsonFields entry, JsonFields::of(one, "refused drive"));
    RefusedDrive drive;
    BB_ASSIGN(drive.slot, entry.text("slot", kTextMaxBytes));
    BB_ASSIGN(drive.uri, entry.text("uri", kTextMaxBytes));
    BB_ASSIGN(drive.reason, entry.text("reason", 4 * kTextMaxBytes));
    report.refused.push_back(std::move(drive));
  }
  return report;
}

Json encode_claim_request(const Uuid& drive, const ClaimRequest& request) {
  return {{"drive", drive_id(drive)},
          {"owner", request.owner.to_string()},
          {"owner_name", request.owner_name},
          {"host_nqn", request.host_nqn},
          {"epoch", request.epoch},
          {"array", request.array.is_nil() ? "" : request.array.to_string()},
          {"array_name", request.array_name}};
}

Result<DriveClaimRequest> decode_claim_request(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "drive.claim"));
  DriveClaimRequest request;
  BB_ASSIGN(std::string id, fields.text("drive", kTextMaxBytes));
  BB_ASSIGN(request.drive, parse_drive_id(id));
  BB_ASSIGN(request.claim.owner, take_uuid(fields, "owner", true));
  BB_ASSIGN(request.claim.owner_name, fields.text_or("owner_name", "", kTextMaxBytes));
  BB_ASSIGN(request.claim.host_nqn, fields.text("host_nqn", kTextMaxBytes));
  BB_ASSIGN(request.claim.epoch, fields.u64("epoch"));
  BB_ASSIGN(request.claim.array, take_uuid(fields, "array", false));
  BB_ASSIGN(request.claim.array_name, fields.text_or("array_name", "", kTextMaxBytes));
  BB_TRY(fields.reject_unknown());
  return request;
}

Json encode_release_request(const Uuid& drive, const ReleaseRequest& request) {
  return {{"drive", drive_id(drive)},
          {"owner", request.owner.is_nil() ? "" : request.owner.to_string()},
          {"array", request.array.is_nil() ? "" : request.array.to_string()},
          {"epoch", request.epoch},
          {"force", request.force}};
}

Result<DriveReleaseRequest> decode_release_request(const Json& json) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(json, "drive.release"));
  DriveReleaseRequest request;
  BB_ASSIGN(std::string id, fields.text("drive", kTextMaxBytes));
  BB_ASSIGN(request.drive, parse_drive_id(id));
  BB_ASSIGN(request.release.owner, take_uuid(fields, "owner", false));
  BB_ASSIGN(request.release.array, take_uuid(fields, "array", false));
  BB_ASSIGN(request.release.epoch, fields.u64_or("epoch", 0));
  BB_ASSIGN(request.release.force, fields.boolean_or("force", false));
  BB_TRY(fields.reject_unknown());
  return request;
}

}  // namespace bb::backplane
