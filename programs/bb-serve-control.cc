// SPDX-License-Identifier: Apache-2.0
#include "bb-serve-control.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "io/device_uri.h"

namespace bb::program {
namespace {

Json encode(const io::nvme::NamespaceStat& stat) {
  return {{"subsystem", stat.nqn},
          {"nsid", stat.nsid},
          {"uuid", stat.uuid.to_string()},
          {"device", stat.device->info().uri},
          {"size_bytes", stat.geometry.block_count * stat.geometry.block_bytes},
          {"block_bytes", stat.geometry.block_bytes},
          {"read_only", stat.geometry.read_only},
          {"ana_group", stat.ana_group},
          {"reads", stat.counters.reads},
          {"writes", stat.counters.writes}};
}

Result<io::nvme::NamespaceStat> find(const io::nvme::Target& target, const std::string& nqn,
                                     uint64_t nsid) {
  for (io::nvme::NamespaceStat& stat : target.namespaces()) {
    if (stat.nqn == nqn && stat.nsid == nsid) return std::move(stat);
  }
  return error(Code::k_not_found, "subsystem {}: has no namespace {}", nqn, nsid);
}

}  // namespace

void NvmeControl::add_methods(io::rpc::RpcServer& server) {
  auto add = [&](const char* name, io::Task<Result<Json>> (NvmeControl::*method)(Json)) {
    server.add(name, [this, method](Json params, io::rpc::Call*) {
      return (this->*method)(std::move(params));
    });
  };
  add("namespace.list", &NvmeControl::on_list);
  add("namespace.add", &NvmeControl::on_add);
  add("namespace.remove", &NvmeControl::on_remove);
  add("namespace.replace", &NvmeControl::on_replace);
  add("ana.list", &NvmeControl::on_ana_list);
  add("ana.set", &NvmeControl::on_ana_set);
}

// Where there is one subsystem only it need not be named.
Result<std::string> NvmeControl::subsystem_or_only(std::string nqn) const {
  if (!nqn.empty()) return nqn;
  std::vector<std::string> names = target_.subsystems();
  if (names.size() == 1) return names.front();
  return error(Code::k_invalid_argument, "there are {} subsystems: say which", names.size());
}

Status NvmeControl::check_alone() const {
  if (alone_) return {};
  return error(Code::k_bad_state, "the devices are exported by NBD or ublk too: they stay");
}

// Of all loops.
io::Task<Result<Json>> NvmeControl::namespaces() {
  Json all = Json::array();
  for (size_t place = 0; place < loops_.size(); ++place) {
    auto list = [here = home(place)]() -> io::Task<Result<Json>> {
      Json rows = Json::array();
      for (const auto& stat : here.target.namespaces()) rows.push_back(encode(stat));
      co_return rows;
    };
    BB_CO_ASSIGN(Json rows, co_await loops_.run(place, std::move(list)));
    for (Json& row : rows) all.push_back(std::move(row));
  }
  co_return all;
}

io::Task<Result<Json>> NvmeControl::on_list(Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "namespace.list"));
  BB_CO_TRY(fields.reject_unknown());
  BB_CO_ASSIGN(Json all, co_await namespaces());
  co_return Json{{"namespaces", std::move(all)}};
}

// The subsystem, which stands in the parameters from here on, says where it is done.
io::Task<Result<Json>> NvmeControl::on_change(Change* change, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "namespace"));
  BB_CO_ASSIGN(std::string given, fields.text_or("subsystem", ""));
  BB_CO_ASSIGN(std::string nqn, subsystem_or_only(std::move(given)));
  params["subsystem"] = nqn;
  size_t place = target_.place_of(nqn);
  auto go = [change, here = home(place), &params] { return change(here, std::move(params)); };
  co_return co_await loops_.run(place, std::move(go));
}

io::Task<Result<Json>> NvmeControl::on_add(Json params) {
  return on_change(add_namespace, std::move(params));
}

io::Task<Result<Json>> NvmeControl::on_remove(Json params) {
  BB_CO_TRY(check_alone());
  co_return co_await on_change(remove_namespace, std::move(params));
}

io::Task<Result<Json>> NvmeControl::on_replace(Json params) {
  BB_CO_TRY(check_alone());
  co_return co_await on_change(replace_namespace, std::move(params));
}

io::Task<Status> NvmeControl::close_device(Home home, io::Device* device) {
  auto found = std::find_if(home.devices.begin(), home.devices.end(),
                            [device](const auto& one) { return one.get() == device; });
  BB_CHECK(found != home.devices.end(), "a device that nobody opened");
  std::unique_ptr<io::Device> taken = std::move(*found);
  home.devices.erase(found);
  co_return co_await taken->close();
}

io::Task<Result<Json>> NvmeControl::add_namespace(Home home, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "namespace.add"));
  BB_CO_ASSIGN(std::string nqn, fields.text("subsystem"));
  BB_CO_ASSIGN(std::string uri, fields.text("device"));
  BB_CO_ASSIGN(std::string uuid_text, fields.text_or("uuid", ""));
  BB_CO_ASSIGN(uint64_t nsid, fields.u64_or("nsid", 0, UINT32_MAX));
  BB_CO_ASSIGN(uint64_t group, fields.u64_or("ana_group", 1, UINT32_MAX));
  BB_CO_ASSIGN(bool read_only, fields.boolean_or("read_only", false));
  BB_CO_TRY(fields.reject_unknown());
  Uuid uuid = Uuid::random(home.context.loop.prng());
  if (!uuid_text.empty()) {
    BB_CO_ASSIGN(uuid, Uuid::parse(uuid_text));
  }
  BB_CO_ASSIGN(std::unique_ptr<io::Device> device, co_await io::open_device(home.context, uri));
  auto added = home.target.add_namespace(nqn, {.nsid = static_cast<uint32_t>(nsid),
                                               .device = device.get(),
                                               .uuid = uuid,
                                               .read_only = read_only,
                                               .ana_group = static_cast<uint32_t>(group)});
  home.devices.push_back(std::move(device));
  if (!added.ok()) {
    (void)co_await close_device(home, home.devices.back().get());
    co_return added.status();
  }
  BB_CO_ASSIGN(io::nvme::NamespaceStat stat, find(home.target, nqn, *added));
  co_return encode(stat);
}

io::Task<Result<Json>> NvmeControl::remove_namespace(Home home, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "namespace.remove"));
  BB_CO_ASSIGN(std::string nqn, fields.text("subsystem"));
  BB_CO_ASSIGN(uint64_t nsid, fields.u64("nsid", UINT32_MAX));
  BB_CO_TRY(fields.reject_unknown());
  BB_CO_ASSIGN(io::nvme::NamespaceStat stat, find(home.target, nqn, nsid));
  Json gone = encode(stat);
  BB_CO_TRY(co_await home.target.remove_namespace(nqn, stat.nsid));
  BB_CO_TRY(co_await close_device(home, stat.device));
  co_return gone;
}

io::Task<Result<Json>> NvmeControl::replace_namespace(Home home, Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "namespace.replace"));
  BB_CO_ASSIGN(std::string nqn, fields.text("subsystem"));
  BB_CO_ASSIGN(uint64_t nsid, fields.u64("nsid", UINT32_MAX));
  BB_CO_ASSIGN(std::string uri, fields.text("device"));
  BB_CO_TRY(fields.reject_unknown());
  BB_CO_ASSIGN(io::nvme::NamespaceStat before, find(home.target, nqn, nsid));
  BB_CO_ASSIGN(std::unique_ptr<io::Device> opened, co_await io::open_device(home.context, uri));
  io::Device* device = opened.get();
  home.devices.push_back(std::move(opened));
  Status replaced = co_await home.target.replace_device(nqn, before.nsid, device);
  Status closed = co_await close_device(home, replaced.ok() ? before.device : device);
  BB_CO_TRY(replaced);
  BB_CO_TRY(closed);
  BB_CO_ASSIGN(io::nvme::NamespaceStat stat, find(home.target, nqn, nsid));
  co_return encode(stat);
}

io::Task<Result<Json>> NvmeControl::on_ana_list(Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "ana.list"));
  BB_CO_TRY(fields.reject_unknown());
  BB_CO_ASSIGN(Json all, co_await namespaces());
  std::vector<uint32_t> groups;
  for (const Json& row : all) groups.push_back(row["ana_group"].get<uint32_t>());
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  std::vector<std::string> addresses = target_.addresses();
  Json states = Json::array();
  for (size_t i = 0; i < addresses.size(); ++i) {
    auto port = static_cast<uint16_t>(i + 1);
    for (uint32_t group : groups) {
      states.push_back({{"port", port},
                        {"address", addresses[i]},
                        {"group", group},
                        {"state", io::nvme::ana_state_name(target_.ana_state(port, group))}});
    }
  }
  co_return Json{{"states", std::move(states)}};
}

io::Task<Result<Json>> NvmeControl::on_ana_set(Json params) {
  BB_CO_ASSIGN(JsonFields fields, JsonFields::of(params, "ana.set"));
  BB_CO_ASSIGN(uint64_t port, fields.u64_or("port", 0, UINT16_MAX));
  BB_CO_ASSIGN(uint64_t group, fields.u64_or("group", 1, UINT32_MAX));
  BB_CO_ASSIGN(std::string name, fields.text("state"));
  BB_CO_TRY(fields.reject_unknown());
  BB_CO_ASSIGN(io::nvme::AnaState state, io::nvme::parse_ana_state(name));
  BB_CO_TRY(co_await target_.set_ana_state(static_cast<uint16_t>(port),
                                           static_cast<uint32_t>(group), state));
  co_return Json::object();
}

}  // namespace bb::program
