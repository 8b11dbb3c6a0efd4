// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <optional>
#include <string>

#include "capi/export_options.h"
#include "capi/handle.h"
#include "io/nbd/server.h"
#include "io/nvme/target.h"
#include "io/ublk/attachment.h"

using bb::Code;
using bb::Result;
using bb::Status;
using bb::Uuid;
using bb::io::Task;
namespace capi = bb::capi;
namespace nbd = bb::io::nbd;
namespace nvme = bb::io::nvme;
namespace ublk = bb::io::ublk;

struct bb_export final : capi::StatsSource {
  bb_device* device = nullptr;
  std::unique_ptr<nvme::Target> target;  // one of the three
  std::unique_ptr<nbd::Server> server;
  std::unique_ptr<ublk::Attachment> attachment;
  std::string uri;

  void collect(bb::io::StatsReport* into) const override {
    if (target != nullptr) target->collect(into);
    if (server != nullptr) server->collect(into);
  }
};

namespace {

Task<Status> start_nvme(capi::ExportRequest* request, bb_export* into) {
  bb::io::Context context = into->device->runtime->runtime->context();
  nvme::TargetOptions options;
  options.listen.push_back({request->listen});
  options.tls = request->tls;
  auto target = nvme::Target::create(context, std::move(options));
  if (!target.ok()) co_return target.status();
  nvme::SubsystemOptions subsystem;
  subsystem.uuid = Uuid::random(context.loop.prng());
  subsystem.nqn = request->name.empty()
                      ? "nqn.2026-11.io.blockbridge:disk:" + subsystem.uuid.to_string()
                      : request->name;
  subsystem.serial = subsystem.uuid.to_string().substr(0, 18);
  subsystem.device = into->device->device;
  subsystem.allowed_hosts = std::move(request->allowed_hosts);
  subsystem.security = std::move(request->security);
  into->uri = fmt::format("nvme-tcp://{}/{}", (*target)->addresses().front(), subsystem.nqn);
  Status added = (*target)->add_subsystem(std::move(subsystem));
  if (!added.ok()) {
    co_await (*target)->stop();
    co_return added;
  }
  into->target = std::move(*target);
  co_return Status();
}

std::string nbd_uri(std::string_view address, std::string_view name) {
  constexpr std::string_view kUnix = "unix:";
  if (!address.starts_with(kUnix)) return fmt::format("nbd://{}/{}", address, name);
  return fmt::format("nbd+unix:///{}?socket={}", name, address.substr(kUnix.size()));
}

Task<Status> start_nbd(capi::ExportRequest* request, bb_export* into) {
  bb::io::Context context = into->device->runtime->runtime->context();
  auto server = std::make_unique<nbd::Server>(
      context, nbd::ServerLimits{},
      nbd::ServerTls{.policy = request->tls, .context = std::move(request->certificates)});
  Status status = server->add_export(request->name, *into->device->device, request->nbd);
  if (status.ok()) {
    auto address = server->start({request->listen});
    status = address.status();
    if (address.ok()) into->uri = nbd_uri(*address, request->name);
  }
  if (!status.ok()) {
    co_await server->stop();
    co_return status;
  }
  into->server = std::move(server);
  co_return Status();
}

Result<std::optional<uint32_t>> ublk_number(const std::string& text) {
  if (text.empty() || text == "any") return std::optional<uint32_t>();
  uint32_t number = 0;
  const char* end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return std::optional<uint32_t>(number);
  return bb::error(Code::k_invalid_argument,
                   "bb_export_start: listen \"{}\" is neither \"any\" nor the N of /dev/ublkbN",
                   text);
}

Task<Status> start_ublk(capi::ExportRequest* request, bb_export* into) {
  bb::io::Context context = into->device->runtime->runtime->context();
  ublk::AttachOptions options;
  BB_CO_ASSIGN(options.device_id, ublk_number(request->listen));
  options.identity = request->name;
  BB_CO_ASSIGN(into->attachment,
               co_await ublk::Attachment::start(context, into->device->device, std::move(options)));
  into->uri = into->attachment->path();
  co_return Status();
}

// BUSY, and nothing has changed: somebody has the block device mounted.
Task<Status> stop(bb_export* exported) {
  if (exported->attachment != nullptr) BB_CO_TRY(co_await exported->attachment->stop());
  exported->attachment.reset();
  if (exported->target != nullptr) co_await exported->target->stop();
  if (exported->server != nullptr) co_await exported->server->stop();
  exported->target.reset();
  exported->server.reset();
  co_return Status();
}

}  // namespace

int bb_export_start(bb_device* device, const bb_export_options* options, bb_export** out) {
  if (out == nullptr) return capi::invalid("bb_export_start: out is NULL");
  *out = nullptr;
  if (device == nullptr) return capi::invalid("bb_export_start: device is NULL");
  bb_export_options given = BB_EXPORT_OPTIONS_INIT;
  capi::ExportRequest request;
  Status status = capi::take_options("bb_export_start", options, &given);
  if (status.ok()) status = capi::read_export_options(given, request);
  if (!status.ok()) return capi::code_of(status);
  auto handle = std::make_unique<bb_export>();
  handle->device = device;
  status = capi::call(device->runtime, [&] {
    if (given.kind == BB_EXPORT_UBLK) return start_ublk(&request, handle.get());
    return given.kind == BB_EXPORT_NBD ? start_nbd(&request, handle.get())
                                       : start_nvme(&request, handle.get());
  });
  if (!status.ok()) return capi::code_of(status);
  device->users.fetch_add(1);
  device->runtime->children.fetch_add(1);
  capi::watch(device->runtime, *handle);
  *out = handle.release();
  return BB_OK;
}

const char* bb_export_uri(bb_export* exported) {
  return exported == nullptr ? "" : exported->uri.c_str();
}

namespace {

// What the kernel does with a ublk device is seen at the device only.
Status has_stats(const char* call, const bb_export& exported) {
  if (exported.attachment == nullptr) return {};
  return bb::error(Code::k_not_supported, "{}: {} is measured as its device: ask that", call,
                   exported.uri);
}

}  // namespace

int bb_export_get_counters(bb_export* exported, bb_io_counters* counters) {
  if (exported == nullptr || counters == nullptr) {
    return capi::invalid("bb_export_get_counters: an argument is NULL");
  }
  Status status = has_stats("bb_export_get_counters", *exported);
  if (!status.ok()) return capi::code_of(status);
  return capi::get_counters("bb_export_get_counters", exported->device->runtime, *exported,
                            counters);
}

int bb_export_get_stats(bb_export* exported, char** json) {
  if (exported == nullptr || json == nullptr) {
    return capi::invalid("bb_export_get_stats: an argument is NULL");
  }
  Status status = has_stats("bb_export_get_stats", *exported);
  if (!status.ok()) return capi::code_of(status);
  return capi::get_stats(exported->device->runtime, *exported, json);
}

int bb_export_close(bb_export** exported) {
  if (exported == nullptr || *exported == nullptr) return BB_OK;
  bb_export* handle = *exported;
  bb_runtime* runtime = handle->device->runtime;
  Status blocked = capi::may_block(runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  capi::unwatch(runtime, *handle);
  Status status = capi::call(runtime, [handle] { return stop(handle); });
  if (status.code() == Code::k_busy) return capi::code_of(status);
  handle->device->users.fetch_sub(1);
  runtime->children.fetch_sub(1);
  delete handle;
  *exported = nullptr;
  return capi::code_of(status);
}
