// SPDX-License-Identifier: Apache-2.0
#include "raid/array.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "capi/handle.h"
#include "cluster/membership_store.h"
#include "raid/explain.h"
#include "raid/member_json.h"

using bb::Code;
using bb::Result;
using bb::Status;
using bb::Uuid;
using bb::io::Task;
using bb::raid::Array;
using bb::raid::MembershipRecord;
namespace capi = bb::capi;

struct bb_array {
  bb_runtime* runtime = nullptr;
  std::vector<bb_device*> members;
  std::unique_ptr<bb::cluster::Store> store;
  std::unique_ptr<bb::cluster::MembershipStore> authority;
  std::unique_ptr<Array> array;
  bb_device device;
};

namespace {

struct Request {
  bb_runtime* runtime = nullptr;
  std::vector<bb_device*> members;
  std::string name;
  std::string store;
  uint64_t region_bytes = 0;
  std::string level = "1";
  uint32_t copies = 0;
  uint64_t chunk_bytes = 0;
  std::string integrity;
  bool assume_clean = false;
  uint64_t slow_fail_ms = 0;
};

uint64_t slow_fail_ns(const Request& request) {
  return std::min(request.slow_fail_ms, UINT64_MAX / bb::kNsPerMs) * bb::kNsPerMs;
}

std::vector<bb::raid::MemberDevice> borrow(const Request& request) {
  std::vector<bb::raid::MemberDevice> members;
  members.reserve(request.members.size());
  for (bb_device* member : request.members) {
    members.push_back(bb::raid::MemberDevice::borrow(*member->device));
  }
  return members;
}

Task<Result<std::unique_ptr<Array>>> create(const Request* request, bb_array* into) {
  bb::raid::ArrayCreate what;
  what.name = request->name;
  what.members = borrow(*request);
  what.assume_clean = request->assume_clean;
  what.region_size_bytes = request->region_bytes;
  what.options.slow_fail_ns = slow_fail_ns(*request);
  auto level = bb::raid::level_from_name(request->level);
  if (!level) {
    co_return bb::error(Code::k_invalid_argument,
                        "RAID level \"{}\": there are 0, 1, 1E, 5, 6 and 10", request->level);
  }
  what.level = *level;
  what.copies = request->copies;
  what.chunk_bytes = request->chunk_bytes;
  BB_CO_ASSIGN(what.integrity, bb::raid::integrity_from_name(request->integrity));
  co_return co_await Array::create(request->runtime->runtime->context(), std::move(what),
                                   into->authority.get());
}

// Each start is a new owner: it commits with a higher epoch, and what an older one still has in
// flight is refused.
Task<Result<std::unique_ptr<Array>>> assemble(const Request* request, bb_array* into) {
  bb::raid::ArrayAssemble what;
  what.devices = borrow(*request);
  what.options.epoch = 1;
  what.options.slow_fail_ns = slow_fail_ns(*request);
  if (!request->name.empty()) {
    auto record = co_await into->authority->load_by_name(request->name);
    if (!record.ok()) co_return record.status();
    what.uuid = record->array;
    what.options.epoch = record->epoch + 1;
  } else {
    auto records = co_await into->authority->list();
    if (!records.ok()) co_return records.status();
    for (const MembershipRecord& record : *records) {
      what.options.epoch = std::max(what.options.epoch, record.epoch + 1);
    }
  }
  co_return co_await Array::assemble(request->runtime->runtime->context(), std::move(what),
                                     into->authority.get());
}

using Opener = Task<Result<std::unique_ptr<Array>>> (*)(const Request*, bb_array*);

Task<Status> open(const Request* request, bb_array* into, Opener opener) {
  bb::io::Context context = request->runtime->runtime->context();
  auto store = co_await bb::cluster::open_store(context, request->store);
  if (!store.ok()) co_return store.status();
  into->store = std::move(store).value();
  into->authority = std::make_unique<bb::cluster::MembershipStore>(context.loop, *into->store);
  auto array = co_await opener(request, into);
  if (!array.ok()) {
    co_await into->store->close();
    into->authority.reset();
    into->store.reset();
    co_return array.status();
  }
  into->array = std::move(array).value();
  co_return Status();
}

// Everything dies where it lived: on the loop.
Task<Status> close(bb_array* array) {
  Status status = co_await array->array->close();
  array->array.reset();
  co_await array->store->close();
  array->authority.reset();
  array->store.reset();
  co_return status;
}

Status check_members(const char* call, bb_runtime* runtime, bb_device* const* members,
                     size_t member_count) {
  if (runtime == nullptr || members == nullptr || member_count == 0 || member_count > 256) {
    return bb::error(Code::k_invalid_argument, "{}: needs a runtime and 1 to 256 members, got {}",
                     call, members == nullptr ? 0 : member_count);
  }
  for (size_t i = 0; i < member_count; ++i) {
    if (members[i] == nullptr) {
      return bb::error(Code::k_invalid_argument, "{}: member {} is NULL", call, i);
    }
    if (members[i]->runtime != runtime) {
      return bb::error(Code::k_invalid_argument, "{}: member {} lives in another runtime", call, i);
    }
  }
  return {};
}

int open_array(const char* call, bb_runtime* runtime, bb_device* const* members, size_t count,
               const bb_array_options* given, bb_array** out, Opener opener) {
  if (out == nullptr) return capi::invalid(fmt::format("{}: out is NULL", call));
  *out = nullptr;
  bb_array_options options = BB_ARRAY_OPTIONS_INIT;
  Status status = capi::take_options(call, given, &options);
  if (status.ok() && options.store == nullptr) {
    status = bb::error(Code::k_invalid_argument, "{}: options.store is NULL", call);
  }
  if (status.ok()) status = check_members(call, runtime, members, count);
  if (!status.ok()) return capi::code_of(status);
  Request request{.runtime = runtime,
                  .members = {members, members + count},
                  .name = options.name == nullptr ? "" : options.name,
                  .store = options.store,
                  .region_bytes = options.region_bytes,
                  .level = options.level == nullptr ? "1" : options.level,
                  .copies = options.copies,
                  .chunk_bytes = options.chunk_bytes,
                  .integrity = options.integrity == nullptr ? "" : options.integrity,
                  .assume_clean = options.assume_clean != 0,
                  .slow_fail_ms = options.slow_fail_ms};
  auto handle = std::make_unique<bb_array>();
  status = capi::call(runtime, [&] { return open(&request, handle.get(), opener); });
  if (!status.ok()) return capi::code_of(status);
  handle->runtime = runtime;
  handle->members = request.members;
  handle->device.runtime = runtime;
  handle->device.device = handle->array.get();
  for (bb_device* member : handle->members) member->users.fetch_add(1);
  runtime->children.fetch_add(1);
  capi::watch(runtime, handle->device);
  *out = handle.release();
  return BB_OK;
}

bb::Json describe(const bb::raid::ArrayInfo& info) {
  bb::Json members = bb::Json::array();
  for (const bb::raid::ArrayMemberInfo& member : info.members) {
    bb::Json one = {{"uuid", member.uuid.to_string()},
                    {"slot", member.slot},
                    {"state", bb::raid::member_state_name(member.state)},
                    {"generation", member.generation},
                    {"drive", member.label},
                    {"present", member.present},
                    {"slow", member.slow},
                    {"behind_bytes", member.behind_bytes},
                    {"detail", member.detail}};
    one.update(bb::raid::encode_member_counters(member));
    members.push_back(std::move(one));
  }
  return {{"name", info.name},
          {"uuid", info.uuid.to_string()},
          {"state", info.state},
          {"detail", info.detail},
          {"level", bb::raid::find_level(info.level)->name},
          {"slots", info.slots},
          {"copies", info.copies},
          {"chunk_bytes", info.chunk_bytes},
          {"integrity", bb::raid::integrity_name(info.integrity)},
          {"explanation", bb::raid::explain(info)},
          {"version", info.version},
          {"epoch", info.epoch},
          {"reason", info.reason},
          {"size_bytes", info.size_bytes},
          {"region_bytes", info.region_size_bytes},
          {"regions", info.regions},
          {"dirty_regions", info.dirty_regions},
          {"resync",
           {{"done_bytes", info.resync_done_bytes}, {"total_bytes", info.resync_total_bytes}}},
          {"members", std::move(members)}};
}

using MemberChange = Task<Status> (*)(Array*, Uuid);

Task<Status> fail_member(Array* array, Uuid member) {
  co_return co_await array->fail_member(member, "taken out by hand");
}
Task<Status> readmit_member(Array* array, Uuid member) {
  co_return co_await array->readmit_member(member);
}

Task<Status> remove_member(Array* array, Uuid member) {
  co_return co_await array->remove_member(member);
}
// `taken`: the array uses the device now, also where it says that something failed after that.
Task<Status> replace_member(bb_array* array, Uuid member, bb_device* fresh, bool force,
                            bool* taken) {
  Status status = co_await array->array->replace_member(
      member, bb::raid::MemberDevice::borrow(*fresh->device), force);
  *taken = array->array->uses(*fresh->device);
  co_return status;
}

int change_member(const char* call, bb_array* array, const char* uuid, MemberChange change) {
  if (array == nullptr || uuid == nullptr) {
    return capi::invalid(fmt::format("{}: an argument is NULL", call));
  }
  Result<Uuid> member = Uuid::parse(uuid);
  if (!member.ok()) return capi::code_of(member.status().with_context(call));
  return capi::code_of(
      capi::call(array->runtime, [&] { return change(array->array.get(), *member); }));
}

Task<Status> scrub(Array* array, bool resume, std::string* json) {
  Result<bb::raid::ScrubRun> ended = co_await array->scrub_all({.resume = resume});
  if (ended.ok()) *json = bb::dump_json(bb::raid::describe_scrub_report(ended->report));
  co_return ended.status();
}

Task<Status> scrub_info(Array* array, std::string* json) {
  co_await array->load_scrub_log();
  *json = bb::dump_json(bb::raid::describe_scrub(array->scrub_info()));
  co_return Status();
}

int run_scrub(const char* name, bb_array* array, bool resume, char** json) {
  if (array == nullptr || json == nullptr) {
    return capi::invalid(std::string(name) + ": an argument is NULL");
  }
  *json = nullptr;
  std::string text;
  Status status =
      capi::call(array->runtime, [&] { return scrub(array->array.get(), resume, &text); });
  if (status.ok()) *json = capi::copy_text(text);
  return capi::code_of(status);
}

int stop_scrub(const char* name, bb_array* array, bb::raid::ScrubStop how) {
  if (array == nullptr) return capi::invalid(std::string(name) + ": array is NULL");
  return capi::code_of(capi::call(array->runtime, [&] { return array->array->stop_scrub(how); }));
}

Task<Status> wait_clean(bb_array* array, uint64_t timeout_ms) {
  bb::io::Loop& loop = array->runtime->runtime->reactor();
  uint64_t wait_ns = std::min(timeout_ms, uint64_t{1} << 40) * bb::kNsPerMs;
  co_return co_await array->array->wait_in_sync(loop.now_ns() + wait_ns);
}

}  // namespace

int bb_array_create(bb_runtime* runtime, bb_device* const* members, size_t member_count,
                    const bb_array_options* options, bb_array** out) {
  return open_array("bb_array_create", runtime, members, member_count, options, out, create);
}

int bb_array_assemble(bb_runtime* runtime, bb_device* const* members, size_t member_count,
                      const bb_array_options* options, bb_array** out) {
  return open_array("bb_array_assemble", runtime, members, member_count, options, out, assemble);
}

bb_device* bb_array_device(bb_array* array) { return array == nullptr ? nullptr : &array->device; }

int bb_array_get_info(bb_array* array, char** json) {
  if (array == nullptr || json == nullptr) {
    return capi::invalid("bb_array_get_info: an argument is NULL");
  }
  std::string text;
  capi::on_loop(array->runtime, [&] { text = bb::dump_json(describe(array->array->describe())); });
  *json = capi::copy_text(text);
  return BB_OK;
}

int bb_array_fail_member(bb_array* array, const char* member_uuid) {
  return change_member("bb_array_fail_member", array, member_uuid, fail_member);
}

int bb_array_readmit_member(bb_array* array, const char* member_uuid) {
  return change_member("bb_array_readmit_member", array, member_uuid, readmit_member);
}

int bb_array_remove_member(bb_array* array, const char* member_uuid) {
  return change_member("bb_array_remove_member", array, member_uuid, remove_member);
}

int bb_array_replace_member(bb_array* array, const char* member_uuid, bb_device* fresh, int force) {
  constexpr const char* kCall = "bb_array_replace_member";
  if (array == nullptr || member_uuid == nullptr || fresh == nullptr) {
    return capi::invalid(fmt::format("{}: an argument is NULL", kCall));
  }
  Result<Uuid> member = Uuid::parse(member_uuid);
  if (!member.ok()) return capi::code_of(member.status().with_context(kCall));
  Status status = check_members(kCall, array->runtime, &fresh, 1);
  if (!status.ok()) return capi::code_of(status);
  bool taken = false;
  fresh->users.fetch_add(1);
  status = capi::call(array->runtime,
                      [&] { return replace_member(array, *member, fresh, force != 0, &taken); });
  if (taken) {
    array->members.push_back(fresh);
  } else {
    fresh->users.fetch_sub(1);
  }
  return capi::code_of(status);
}

int bb_array_set_resync_rate(bb_array* array, uint64_t limit_bytes_per_second,
                             uint64_t least_beside_host_bytes_per_second) {
  if (array == nullptr) return capi::invalid("bb_array_set_resync_rate: array is NULL");
  if (limit_bytes_per_second != 0 && least_beside_host_bytes_per_second > limit_bytes_per_second) {
    return capi::invalid(fmt::format(
        "bb_array_set_resync_rate: at least {} bytes per second is more than the limit of {}",
        least_beside_host_bytes_per_second, limit_bytes_per_second));
  }
  capi::on_loop(array->runtime, [&] {
    array->array->set_resync_rate(limit_bytes_per_second, least_beside_host_bytes_per_second);
  });
  return BB_OK;
}

int bb_array_scrub(bb_array* array, char** json) {
  return run_scrub("bb_array_scrub", array, false, json);
}

int bb_array_scrub_resume(bb_array* array, char** json) {
  return run_scrub("bb_array_scrub_resume", array, true, json);
}

int bb_array_scrub_pause(bb_array* array) {
  return stop_scrub("bb_array_scrub_pause", array, bb::raid::ScrubStop::kPause);
}

int bb_array_scrub_cancel(bb_array* array) {
  return stop_scrub("bb_array_scrub_cancel", array, bb::raid::ScrubStop::kCancel);
}

int bb_array_scrub_info(bb_array* array, char** json) {
  if (array == nullptr || json == nullptr) {
    return capi::invalid("bb_array_scrub_info: an argument is NULL");
  }
  *json = nullptr;
  std::string text;
  Status status = capi::call(array->runtime, [&] { return scrub_info(array->array.get(), &text); });
  if (status.ok()) *json = capi::copy_text(text);
  return capi::code_of(status);
}

int bb_array_wait_clean(bb_array* array, uint64_t timeout_ms) {
  if (array == nullptr) return capi::invalid("bb_array_wait_clean: array is NULL");
  return capi::code_of(capi::call(array->runtime, [&] { return wait_clean(array, timeout_ms); }));
}

int bb_array_close(bb_array** array) {
  if (array == nullptr || *array == nullptr) return BB_OK;
  bb_array* handle = *array;
  if (handle->device.users.load() != 0) {
    return capi::code_of(bb::error(Code::k_bad_state, "bb_array_close: {} exports use the array",
                                   handle->device.users.load()));
  }
  Status blocked = capi::may_block(handle->runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  capi::unwatch(handle->runtime, handle->device);
  Status status = capi::call(handle->runtime, [handle] { return close(handle); });
  for (bb_device* member : handle->members) member->users.fetch_sub(1);
  handle->runtime->children.fetch_sub(1);
  delete handle;
  *array = nullptr;
  return capi::code_of(status);
}
