// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>

#include "backplane/dataplane.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

// Array names are export names, store keys and words on command lines.
Status check_array_name(const std::string& name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  if (name.empty() || name.size() > raid::kNameMaxBytes)
    return error(Code::k_invalid_argument, "array name of {} bytes (1 to {})", name.size(),
                 raid::kNameMaxBytes);
  if (name.find_first_not_of(kAllowed) != std::string::npos || name[0] == '-' || name[0] == '.')
    return error(Code::k_invalid_argument,
                 "array name \"{}\": letters, digits, \"-\", \"_\" and \".\" only, and not \"-\" "
                 "or \".\" first",
                 name);
  return ok_status();
}

struct NameAndDrive {
  std::string name;
  std::string drive;
};

Result<NameAndDrive> parse_name_and_drive(const Json& params, std::string_view method) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, method));
  NameAndDrive out;
  BB_ASSIGN(out.name, fields.text("name", raid::kNameMaxBytes));
  BB_ASSIGN(out.drive, fields.text("drive", 256));
  BB_TRY(fields.reject_unknown());
  return out;
}

Result<std::string> parse_name(const Json& params, std::string_view method) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, method));
  BB_ASSIGN(std::string name, fields.text("name", raid::kNameMaxBytes));
  BB_TRY(fields.reject_unknown());
  return name;
}

struct ScrubRequest {
  std::string name;
  std::string action;
};

Result<ScrubRequest> parse_scrub_request(const Json& params) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, "array.scrub"));
  ScrubRequest out;
  BB_ASSIGN(out.name, fields.text("name", raid::kNameMaxBytes));
  BB_ASSIGN(out.action, fields.text_or("action", "", 32));
  BB_TRY(fields.reject_unknown());
  for (const char* known : {"", "start", "resume", "pause", "cancel"}) {
    if (out.action == known) return out;
  }
  return error(Code::k_invalid_argument,
               "array.scrub: action \"{}\": there are start, resume, pause and cancel", out.action);
}

Status reject_all(const Json& params, std::string_view method) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, method));
  return fields.reject_unknown();
}

// A name nobody else may work on while we do.
class BusyName {
 public:
  BusyName(std::set<std::string>* names, std::string name)
      : names_(names), name_(std::move(name)), taken_(names->insert(name_).second) {}
  BusyName(const BusyName&) = delete;
  ~BusyName() {
    if (taken_) names_->erase(name_);
  }
  Status status() const {
    if (taken_) return ok_status();
    return error(Code::k_busy, "array \"{}\": another command is working on it", name_);
  }

 private:
  std::set<std::string>* names_;
  std::string name_;
  bool taken_;
};

Json describe_drive(const FoundDrive& found, const DriveRecord& record, const OwnerIdentity& us) {
  const NodeDrive& drive = found.drive;
  return {{"id", drive_id(drive.uuid)},
          {"nqn", drive_nqn(drive.uuid)},
          {"backplane", found.backplane->config().name},
          {"disk_node", record.disk_node},
          {"domain", record.domain},
          {"enclosure", record.enclosure},
          {"slot", record.slot},
          {"serial", record.serial},
          {"model", record.model},
          {"capacity_bytes", record.capacity_bytes},
          {"block_size_bytes", record.block_size_bytes},
          {"state", drive_state(found, us)},
          {"owner", drive.claim.owner_name},
          {"epoch", drive.claim.epoch},
          {"array", drive.claim.array_name},
          {"errors", drive.errors},
          {"detail", found.online ? drive.detail : found.backplane->detail()}};
}

struct ListRequest {
  Query query;
  ChooseOptions choose;
  bool explain = false;
};

Result<ListRequest> parse_list(const Json& params) {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, "drive.list"));
  ListRequest request;
  BB_ASSIGN(std::string text, fields.text_or("query", "", kQueryTextMaxBytes));
  BB_ASSIGN(request.query, Query::parse(text));
  BB_ASSIGN(request.explain, fields.boolean_or("explain", false));
  BB_ASSIGN(uint64_t members, fields.u64_or("members", 0, raid::kMembersMax));
  request.choose.count = static_cast<uint32_t>(members);
  BB_ASSIGN(request.choose.spread, fields.boolean_or("spread", members > 0));
  BB_TRY(fields.reject_unknown());
  return request;
}

}  // namespace

void Dataplane::add_method(std::string name, Method method) {
  server_.add(std::move(name), [this, method](Json params, io::rpc::Call*) {
    return (this->*method)(std::move(params));
  });
}

void Dataplane::add_methods() {
  add_method("daemon.info", &Dataplane::daemon_info);
  add_method("drive.list", &Dataplane::drive_list);
  add_method("array.create", &Dataplane::array_create);
  add_method("array.list", &Dataplane::array_list);
  add_method("array.info", &Dataplane::array_info);
  add_method("array.fail", &Dataplane::array_fail);
  add_method("array.readmit", &Dataplane::array_readmit);
  add_method("array.scrub", &Dataplane::array_scrub);
  add_method("array.stop", &Dataplane::array_stop);
  add_method("array.start", &Dataplane::array_start);
  add_method("array.remove", &Dataplane::array_remove);
  add_method("target.list", &Dataplane::target_list);
}

Json Dataplane::describe_backplanes() const {
  Json list = Json::array();
  for (const auto& client : backplanes_.clients())
    list.push_back({{"name", client->config().name},
                    {"control", client->config().control},
                    {"state", client->online() ? "online" : "offline"},
                    {"detail", client->detail()},
                    {"drives", client->report().drives.size()}});
  return list;
}

Json Dataplane::exports_of(const ManagedArray& array) const {
  Json list = Json::array();
  const ArrayRecord& record = array.record();
  std::string nqn = "nqn.2026-11.io.blockbridge:disk:" + record.uuid.to_string();
  auto add = [&](std::string_view protocol, const std::string& address, const std::string& name,
                 std::string uri) {
    list.push_back({{"array", record.name},
                    {"protocol", protocol},
                    {"address", address},
                    {"name", name},
                    {"uri", std::move(uri)}});
  };
  for (const std::string& address : nvme_addresses())
    add("nvme-tcp", address, nqn, fmt::format("nvme-tcp://{}/{}", address, nqn));
  for (const std::string& address : nbd_addresses_) {
    if (address.starts_with("unix:"))
      add("nbd", address, record.name,
          fmt::format("nbd+unix:///{}?socket={}", record.name, address.substr(5)));
    else
      add("nbd", address, record.name, fmt::format("nbd://{}/{}", address, record.name));
  }
  return list;
}

Json Dataplane::describe_array(const ManagedArray& array) const {
  Json json = array.describe();
  json["exports"] = exports_of(array);
  return json;
}

Result<ManagedArray*> Dataplane::find_array(const std::string& name) const {
  auto it = arrays_.find(name);
  if (it != arrays_.end()) return it->second.get();
  if (stopped_.contains(name))
    return error(Code::k_bad_state, "array \"{}\" is stopped; start it first", name);
  return error(Code::k_not_found, "no array \"{}\"", name);
}

io::Task<Result<Json>> Dataplane::daemon_info(Json params) {
  BB_CO_TRY(reject_all(params, "daemon.info"));
  co_return Json{{"name", config_.name},         {"owner", us_.owner.to_string()},
                 {"host_nqn", us_.nqn()},        {"store", config_.store},
                 {"nvme_tcp", nvme_addresses()}, {"nbd", nbd_addresses_},
                 {"arrays", arrays_.size()},     {"backplanes", describe_backplanes()}};
}

io::Task<Result<Json>> Dataplane::drive_list(Json params) {
  BB_CO_ASSIGN(ListRequest request, parse_list(params));
  co_await backplanes_.wait_tried(context_.loop.now_ns() + 5 * kNsPerSecond);
  co_await backplanes_.refresh_all();
  BackplaneSet::Inventory inventory = backplanes_.inventory(us_);
  std::map<size_t, std::string> reasons;
  Json answer = {{"backplanes", describe_backplanes()}};
  if (request.choose.count > 0) {
    Choice choice;
    Status status = choose_drives(request.query, inventory.records, request.choose, &choice);
    answer["choice"] = status.ok() ? "" : status.text();
    answer["chosen"] = Json::array();
    for (size_t index : choice.chosen)
      answer["chosen"].push_back(drive_id(inventory.records[index].uuid));
    for (Refused& one : choice.refused) reasons[one.drive] = std::move(one.reason);
  } else {
    for (size_t i = 0; i < inventory.records.size(); ++i) {
      std::string reason = query_refusal(request.query, inventory.records[i]);
      if (!reason.empty()) reasons[i] = std::move(reason);
    }
  }
  std::vector<size_t> order;
  for (size_t i = 0; i < inventory.records.size(); ++i)
    if (request.explain || !reasons.contains(i)) order.push_back(i);
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return drive_before(inventory.records[a], inventory.records[b]);
  });
  Json drives = Json::array();
  for (size_t i : order) {
    Json one = describe_drive(inventory.found[i], inventory.records[i], us_);
    if (request.explain) one["reason"] = reasons[i];
    drives.push_back(std::move(one));
  }
  Json refused = Json::array();
  for (const auto& client : backplanes_.clients())
    for (const RefusedDrive& one : client->report().refused)
      refused.push_back({{"backplane", client->config().name},
                         {"slot", one.slot},
                         {"uri", one.uri},
                         {"reason", one.reason}});
  answer["drives"] = std::move(drives);
  answer["refused"] = std::move(refused);
  co_return answer;
}

Result<ArrayCreateRequest> Dataplane::parse_create(const Json& params) const {
  BB_ASSIGN(JsonFields fields, JsonFields::of(params, "array.create"));
  ArrayCreateRequest request;
  BB_ASSIGN(request.name, fields.text("name", 1024));
  BB_TRY(check_array_name(request.name));
  BB_ASSIGN(std::string raid, fields.text_or("raid", "1.2", 32));
  BB_ASSIGN(uint64_t chunk_bytes, fields.u64_or("chunk_bytes", 0));
  Result<raid::Shape> shape = raid::parse_shape(raid, chunk_bytes);
  if (!shape.ok()) return shape.status().with_context(fmt::format("array \"{}\"", request.name));
  request.shape = *shape;
  BB_ASSIGN(std::string query, fields.text_or("query", "", kQueryTextMaxBytes));
  BB_ASSIGN(request.query, Query::parse(query));
  BB_ASSIGN(request.spread, fields.boolean_or("spread", true));
  BB_ASSIGN(request.region_bytes, fields.u64_or("region_bytes", 0));
  BB_ASSIGN(request.assume_clean, fields.boolean_or("assume_clean", false));
  BB_ASSIGN(std::string integrity, fields.text_or("integrity", "", 32));
  BB_ASSIGN(request.integrity, raid::integrity_from_name(integrity));
  BB_TRY(fields.reject_unknown());
  if (arrays_.contains(request.name) || stopped_.contains(request.name))
    return error(Code::k_already_exists, "array \"{}\" exists", request.name);
  return request;
}

io::Task<Result<Json>> Dataplane::array_create(Json params) {
  BB_CO_ASSIGN(ArrayCreateRequest request, parse_create(params));
  std::string name = request.name;
  BusyName busy(&busy_names_, name);
  BB_CO_TRY(busy.status());
  Status status = co_await create_array(std::move(request));
  if (!status.ok()) co_return status.with_context(fmt::format("array \"{}\"", name));
  co_return describe_array(*arrays_.at(name));
}

io::Task<Result<Json>> Dataplane::array_list(Json params) {
  BB_CO_TRY(reject_all(params, "array.list"));
  Json arrays = Json::array();
  for (const auto& [name, array] : arrays_) arrays.push_back(describe_array(*array));
  for (const auto& [name, entry] : stopped_)
    arrays.push_back({{"name", name},
                      {"uuid", entry.record.uuid.to_string()},
                      {"raid", raid::shape_text(entry.record.shape)},
                      {"level", entry.record.shape.level->name},
                      {"members_wanted", entry.record.shape.members},
                      {"members_in_sync", 0},
                      {"capacity_bytes", 0},
                      {"domains", 0},
                      {"members", Json::array()},
                      {"exports", Json::array()},
                      {"detail", ""},
                      {"state", "stopped"}});
  co_return Json{{"arrays", std::move(arrays)}};
}

io::Task<Result<Json>> Dataplane::array_info(Json params) {
  BB_CO_ASSIGN(std::string name, parse_name(params, "array.info"));
  BB_CO_ASSIGN(ManagedArray * array, find_array(name));
  co_return describe_array(*array);
}

io::Task<Result<Json>> Dataplane::array_scrub(Json params) {
  BB_CO_ASSIGN(ScrubRequest what, parse_scrub_request(params));
  BB_CO_ASSIGN(ManagedArray * array, find_array(what.name));
  if (what.action == "pause" || what.action == "cancel") {
    bool pause = what.action == "pause";
    BB_CO_TRY(
        co_await array->stop_scrub(pause ? raid::ScrubStop::kPause : raid::ScrubStop::kCancel));
  } else {
    BB_CO_TRY(array->start_scrub({.resume = what.action != "start"}));
  }
  co_return describe_array(*array);
}

io::Task<Result<Json>> Dataplane::array_fail(Json params) {
  BB_CO_ASSIGN(NameAndDrive what, parse_name_and_drive(params, "array.fail"));
  BB_CO_ASSIGN(ManagedArray * array, find_array(what.name));
  BusyName busy(&busy_names_, what.name);
  BB_CO_TRY(busy.status());
  BB_CO_TRY(co_await array->fail(what.drive));
  co_return describe_array(*array);
}

io::Task<Result<Json>> Dataplane::array_readmit(Json params) {
  BB_CO_ASSIGN(NameAndDrive what, parse_name_and_drive(params, "array.readmit"));
  BB_CO_ASSIGN(ManagedArray * array, find_array(what.name));
  BusyName busy(&busy_names_, what.name);
  BB_CO_TRY(busy.status());
  BB_CO_TRY(co_await array->readmit(what.drive));
  co_return describe_array(*array);
}

io::Task<Result<Json>> Dataplane::array_stop(Json params) {
  BB_CO_ASSIGN(std::string name, parse_name(params, "array.stop"));
  BB_CO_ASSIGN(ManagedArray * array, find_array(name));
  BusyName busy(&busy_names_, name);
  BB_CO_TRY(busy.status());
  BB_CO_TRY(co_await stop_array(array));
  stopped_[name] = array->entry();
  arrays_.erase(name);
  co_return Json{{"name", name}, {"state", "stopped"}};
}

io::Task<Result<Json>> Dataplane::array_start(Json params) {
  BB_CO_ASSIGN(std::string name, parse_name(params, "array.start"));
  BusyName busy(&busy_names_, name);
  BB_CO_TRY(busy.status());
  auto it = stopped_.find(name);
  if (it == stopped_.end()) {
    BB_CO_ASSIGN(ManagedArray * running, find_array(name));
    co_return describe_array(*running);  // already so
  }
  arrays_[name] = make_array(std::move(it->second));
  stopped_.erase(it);
  arrays_[name]->resume();
  co_return describe_array(*arrays_[name]);
}

io::Task<Result<Json>> Dataplane::array_remove(Json params) {
  BB_CO_ASSIGN(std::string name, parse_name(params, "array.remove"));
  BusyName busy(&busy_names_, name);
  BB_CO_TRY(busy.status());
  if (auto it = stopped_.find(name); it != stopped_.end()) {
    arrays_[name] = make_array(std::move(it->second));
    stopped_.erase(it);
  }
  BB_CO_ASSIGN(ManagedArray * array, find_array(name));
  BB_CO_TRY(co_await stop_array(array));
  Status status = co_await array->discard();
  ArrayBook::Entry left = array->entry();
  arrays_.erase(name);
  if (!status.ok()) co_return status.with_context(fmt::format("array \"{}\"", name));
  if (!co_await sweep_record(&left)) removing_.push_back(std::move(left));
  co_return Json{{"name", name}, {"state", "removed"}};
}

io::Task<Result<Json>> Dataplane::target_list(Json params) {
  BB_CO_TRY(reject_all(params, "target.list"));
  Json targets = Json::array();
  for (const auto& [name, array] : arrays_) {
    if (array->array() == nullptr) continue;
    for (Json& one : exports_of(*array)) targets.push_back(std::move(one));
  }
  co_return Json{{"targets", std::move(targets)}};
}

}  // namespace bb::backplane
