// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "capi/handle.h"

namespace bb::capi {
namespace {

thread_local std::string last_error;

#define BB_CODE(value, upper, lower, exit_status, action) \
  static_assert(BB_##upper == value, "blockbridge.h and codes.def differ");
#include "base/codes.def"
#undef BB_CODE

}  // namespace

int code_of(const Status& status) {
  if (!status.ok()) last_error = status.text();
  return static_cast<int>(status.code());
}

char* copy_text(const std::string& text) { return strdup(text.c_str()); }

bb_device* adopt(bb_runtime* runtime, std::unique_ptr<io::Device> device) {
  auto* handle = new bb_device;
  handle->runtime = runtime;
  handle->device = device.get();
  handle->owned = std::move(device);
  runtime->children.fetch_add(1);
  watch(runtime, *handle);
  return handle;
}

int invalid(std::string_view text) {
  return code_of(Status(Code::k_invalid_argument, std::string(text)));
}

namespace {

Result<io::EngineKind> engine_of(uint32_t engine) {
  switch (engine) {
    case BB_ENGINE_AUTO:
      return io::EngineKind::kAuto;
    case BB_ENGINE_IO_URING:
      return io::EngineKind::kUring;
    case BB_ENGINE_EPOLL:
      return io::EngineKind::kEpoll;
    default:
      return error(Code::k_invalid_argument, "bb_runtime_open: engine {} is none of bb_engine",
                   engine);
  }
}

}  // namespace

Status may_block(bb_runtime* runtime) {
  io::Runtime& inner = *runtime->runtime;
  if (inner.own_thread() ? inner.on_loop_thread() : inner.reactor().inside()) {
    return error(
        Code::k_bad_state,
        "a blocking call from within a callback would wait for itself: use the _async call");
  }
  return {};
}

}  // namespace bb::capi

using bb::Code;
using bb::Status;
namespace capi = bb::capi;

const char* bb_version(void) { return BB_VERSION; }

const char* bb_last_error(void) { return capi::last_error.c_str(); }

const char* bb_code_name(int code) {
  switch (code) {
#define BB_CODE(value, upper, lower, exit_status, action) \
  case value:                                             \
    return #lower;
#include "base/codes.def"
#undef BB_CODE
    default:
      return "unknown";
  }
}

int bb_log_level_set(const char* level) {
  static constexpr std::pair<std::string_view, bb::LogLevel> kLevels[] = {
      {"debug", bb::LogLevel::kDebug},
      {"info", bb::LogLevel::kInfo},
      {"warn", bb::LogLevel::kWarn},
      {"error", bb::LogLevel::kError},
      {"off", bb::LogLevel::kOff}};
  if (level == nullptr) return capi::invalid("bb_log_level_set: level is NULL");
  for (auto [name, value] : kLevels) {
    if (name != level) continue;
    bb::set_log_level(value);
    return BB_OK;
  }
  return capi::invalid(
      fmt::format("bb_log_level_set: \"{}\" is none of debug, info, warn, error, off",
                  std::string_view(level).substr(0, 64)));
}

int bb_runtime_open(const bb_runtime_options* options, bb_runtime** out) {
  if (out == nullptr) return capi::invalid("bb_runtime_open: out is NULL");
  *out = nullptr;
  bb_runtime_options given = BB_RUNTIME_OPTIONS_INIT;
  Status taken = capi::take_options("bb_runtime_open", options, &given);
  if (!taken.ok()) return capi::code_of(taken);
  bb::Result<bb::io::EngineKind> engine = capi::engine_of(given.engine);
  if (!engine.ok()) return capi::code_of(engine.status());
  auto runtime = bb::io::Runtime::create(given.host_driven == 0,
                                         {.engine = *engine, .spin = given.no_spin == 0});
  if (!runtime.ok()) return capi::code_of(runtime.status());
  auto handle = std::make_unique<bb_runtime>();
  handle->runtime = std::move(runtime).value();
  *out = handle.release();
  return BB_OK;
}

int bb_runtime_close(bb_runtime** runtime) {
  if (runtime == nullptr || *runtime == nullptr) return BB_OK;
  int64_t children = (*runtime)->children.load();
  if (children != 0) {
    return capi::code_of(bb::error(
        Code::k_bad_state,
        "bb_runtime_close: {} objects still live in the runtime: close them first", children));
  }
  Status blocked = capi::may_block(*runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  delete *runtime;
  *runtime = nullptr;
  return BB_OK;
}

int bb_runtime_engine(bb_runtime* runtime, bb_engine* engine) {
  if (runtime == nullptr || engine == nullptr)
    return capi::invalid("bb_runtime_engine: an argument is NULL");
  bool uring = runtime->runtime->reactor().engine() == bb::io::EngineKind::kUring;
  *engine = uring ? BB_ENGINE_IO_URING : BB_ENGINE_EPOLL;
  return BB_OK;
}

int bb_runtime_fd(bb_runtime* runtime, int* fd) {
  if (runtime == nullptr || fd == nullptr)
    return capi::invalid("bb_runtime_fd: an argument is NULL");
  if (runtime->runtime->own_thread()) {
    return capi::code_of(
        bb::error(Code::k_bad_state, "bb_runtime_fd: the runtime has its own thread"));
  }
  auto got = runtime->runtime->reactor().poll_fd();
  if (!got.ok()) return capi::code_of(got.status());
  *fd = *got;
  return BB_OK;
}

int bb_runtime_poll(bb_runtime* runtime) {
  if (runtime == nullptr) return capi::invalid("bb_runtime_poll: runtime is NULL");
  if (runtime->runtime->own_thread()) {
    return capi::code_of(
        bb::error(Code::k_bad_state, "bb_runtime_poll: the runtime has its own thread"));
  }
  if (runtime->runtime->reactor().inside()) {
    return capi::code_of(
        bb::error(Code::k_bad_state, "bb_runtime_poll: called from within a callback"));
  }
  runtime->runtime->reactor().run_once(false);
  runtime->runtime->reactor().prepare_poll();
  return BB_OK;
}

void bb_string_free(char* text) { std::free(text); }
