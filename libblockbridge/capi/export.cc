// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <optional>
#include <string>
#include <vector>

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

struct bb_export {
  bb_device* device = nullptr;
  std::unique_ptr<nvme::Target> target;  // one of the three
  std::unique_ptr<nbd::Server> server;
  std::unique_ptr<ublk::Attachment> attachment;
  std::string uri;
};

namespace {

struct Request {
  bb_device* device = nullptr;
  std::string listen;
  std::string name;
  std::vector<std::string> allowed_hosts;
  nbd::ExportOptions nbd;
  nbd::ServerTls tls;
};

Task<Status> start_nvme(const Request* request, bb_export* into) {
  bb::io::Context context = request->device->runtime->runtime->context();
  nvme::TargetOptions options;
  options.listen.push_back({request->listen});
  auto target = nvme::Target::create(context, std::move(options));
  if (!target.ok()) co_return target.status();
  nvme::SubsystemOptions subsystem;
  subsystem.uuid = Uuid::random(context.loop.prng());
  subsystem.nqn = request->name.empty()
                      ? "nqn.2026-11.io.blockbridge:disk:" + subsystem.uuid.to_string()
                      : request->name;
  subsystem.serial = subsystem.uuid.to_string().substr(0, 18);
  subsystem.device = request->device->device;
  subsystem.allowed_hosts = request->allowed_hosts;
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

Task<Status> start_nbd(Request* request, bb_export* into) {
  bb::io::Context context = request->device->runtime->runtime->context();
  auto server =
      std::make_unique<nbd::Server>(context, nbd::ServerLimits{}, std::move(request->tls));
  Status status = server->add_export(request->name, *request->device->device, request->nbd);
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

Task<Status> start_ublk(const Request* request, bb_export* into) {
  bb::io::Context context = request->device->runtime->runtime->context();
  ublk::AttachOptions options;
  BB_CO_ASSIGN(options.device_id, ublk_number(request->listen));
  options.identity = request->name;
  BB_CO_ASSIGN(into->attachment, co_await ublk::Attachment::start(context, request->device->device,
                                                                  std::move(options)));
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

Status bad(std::string_view why) {
  return bb::error(Code::k_invalid_argument, "bb_export_start: {}", why);
}

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

// Reads the certificates here, on the caller's thread.
Status read_tls(const bb_export_options& options, Request& request) {
  bb::io::TlsOptions files{.role = bb::io::TlsRole::kServer,
                           .certificate_file = text_of(options.nbd_tls_certificate_file),
                           .key_file = text_of(options.nbd_tls_key_file),
                           .ca_file = text_of(options.nbd_tls_ca_file)};
  if (options.tls > BB_EXPORT_TLS_REQUIRED) return bad(fmt::format("no tls {}", options.tls));
  auto policy = static_cast<bb::io::TlsPolicy>(options.tls);
  if (policy == bb::io::TlsPolicy::kOff) {
    bool given =
        !files.certificate_file.empty() || !files.key_file.empty() || !files.ca_file.empty();
    return given ? bad("certificates, but tls is off") : Status();
  }
  if (options.kind != BB_EXPORT_NBD) return bad("tls is for NBD");
  if (files.certificate_file.empty() || files.key_file.empty()) {
    return bad("tls needs nbd_tls_certificate_file and nbd_tls_key_file");
  }
  request.tls.policy = policy;
  BB_ASSIGN(request.tls.context, bb::io::TlsContext::create(std::move(files)));
  return {};
}

// What only NBD knows.
Status read_nbd(const bb_export_options& options, Request& request) {
  bool wanted = options.nbd_read_only != 0 || options.nbd_exclusive != 0 ||
                options.nbd_tls_certificate_file != nullptr ||
                options.nbd_tls_key_file != nullptr || options.nbd_tls_ca_file != nullptr;
  if (options.kind != BB_EXPORT_NBD && wanted) {
    return bad("options whose names begin with nbd_ are for NBD");
  }
  request.nbd.read_only = options.nbd_read_only != 0;
  request.nbd.exclusive = options.nbd_exclusive != 0;
  return {};
}

Status read_request(bb_device* device, const bb_export_options& options, Request& request) {
  if (device == nullptr) return bad("device is NULL");
  if (options.kind > BB_EXPORT_UBLK) return bad(fmt::format("no kind {}", options.kind));
  if (options.listen == nullptr && options.kind != BB_EXPORT_UBLK) {
    return bad("options.listen is NULL");
  }
  if (options.allowed_host_count > 0 && options.allowed_hosts == nullptr) {
    return bad("options.allowed_hosts is NULL");
  }
  if (options.kind != BB_EXPORT_NVME_TCP && options.allowed_host_count > 0) {
    return bad(fmt::format("{} knows no host names: allowed_hosts is for NVMe/TCP",
                           options.kind == BB_EXPORT_NBD ? "NBD" : "ublk"));
  }
  request.device = device;
  request.listen = text_of(options.listen);
  request.name = text_of(options.name);
  BB_TRY(read_nbd(options, request));
  BB_TRY(read_tls(options, request));
  for (size_t i = 0; i < options.allowed_host_count; ++i) {
    if (options.allowed_hosts[i] == nullptr) return bad("an allowed host is NULL");
    request.allowed_hosts.emplace_back(options.allowed_hosts[i]);
  }
  return {};
}

}  // namespace

int bb_export_start(bb_device* device, const bb_export_options* options, bb_export** out) {
  if (out == nullptr) return capi::invalid("bb_export_start: out is NULL");
  *out = nullptr;
  bb_export_options given = BB_EXPORT_OPTIONS_INIT;
  Request request;
  Status status = capi::take_options("bb_export_start", options, &given);
  if (status.ok()) status = read_request(device, given, request);
  if (!status.ok()) return capi::code_of(status);
  auto handle = std::make_unique<bb_export>();
  status = capi::call(device->runtime, [&] {
    if (given.kind == BB_EXPORT_UBLK) return start_ublk(&request, handle.get());
    return given.kind == BB_EXPORT_NBD ? start_nbd(&request, handle.get())
                                       : start_nvme(&request, handle.get());
  });
  if (!status.ok()) return capi::code_of(status);
  handle->device = device;
  device->users.fetch_add(1);
  device->runtime->children.fetch_add(1);
  *out = handle.release();
  return BB_OK;
}

const char* bb_export_uri(bb_export* exported) {
  return exported == nullptr ? "" : exported->uri.c_str();
}

int bb_export_close(bb_export** exported) {
  if (exported == nullptr || *exported == nullptr) return BB_OK;
  bb_export* handle = *exported;
  bb_runtime* runtime = handle->device->runtime;
  Status blocked = capi::may_block(runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  Status status = capi::call(runtime, [handle] { return stop(handle); });
  if (status.code() == Code::k_busy) return capi::code_of(status);
  handle->device->users.fetch_sub(1);
  runtime->children.fetch_sub(1);
  delete handle;
  *exported = nullptr;
  return capi::code_of(status);
}
