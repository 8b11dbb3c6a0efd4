// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "blockbridge/blockbridge.h"
#include "io/device.h"
#include "io/runtime.h"
#include "io/stats_report.h"

namespace bb::capi {

// A handle whose statistics can be asked for.
class StatsSource {
 public:
  // On the loop. Its own row first, then those of what it consists of.
  virtual void collect(io::StatsReport* into) const = 0;

 protected:
  ~StatsSource() = default;
};

}  // namespace bb::capi

// What the opaque handles of blockbridge.h are.

struct bb_runtime {
  std::unique_ptr<bb::io::Runtime> runtime;
  std::atomic<int64_t> children{0};  // objects that still live in it
  std::mutex sources_mutex;
  std::vector<const bb::capi::StatsSource*> sources;  // as they were opened
};

struct bb_device final : bb::capi::StatsSource {
  bb_runtime* runtime = nullptr;
  std::unique_ptr<bb::io::Device> owned;  // null for an array's device
  bb::io::Device* device = nullptr;
  std::atomic<int64_t> users{0};  // arrays and exports that borrow it

  void collect(bb::io::StatsReport* into) const override;
};

namespace bb::capi {

// Remembers the text for bb_last_error() and gives the code; BB_OK when it worked.
int code_of(const Status& status);
int invalid(std::string_view text);

// Refuses a blocking call from the runtime's own thread, where it would wait for itself.
Status may_block(bb_runtime* runtime);

// Copies a struct that says its own size: fields the caller does not know keep their defaults.
template <typename Options>
Status take_options(const char* call, const Options* given, Options* into) {
  if (given == nullptr) return {};
  if (given->struct_size < sizeof(uint32_t) || given->struct_size > 65536) {
    return error(Code::k_invalid_argument, "{}: struct_size is {}: use the _INIT macro", call,
                 given->struct_size);
  }
  std::memcpy(into, given, std::min<size_t>(given->struct_size, sizeof *into));
  return {};
}

// Runs the task that make() gives on the runtime's loop and waits; the blocking half of every call.
template <typename Make>
Status call(bb_runtime* runtime, Make make) {
  Status allowed = may_block(runtime);
  if (!allowed.ok()) return allowed;
  return runtime->runtime->call(std::move(make));
}

template <typename Fn>
io::Task<Status> run_plain(Fn* fn) {
  (*fn)();
  co_return Status();
}

// Runs a plain function on the runtime's loop; from the loop's own thread at once.
template <typename Fn>
void on_loop(bb_runtime* runtime, Fn fn) {
  if (!may_block(runtime).ok()) return fn();
  Status status = runtime->runtime->call([&fn] { return run_plain(&fn); });
  BB_CHECK(status.ok(), "{}", status.to_string());
}

// A device that lives in the runtime, as its caller's handle.
bb_device* adopt(bb_runtime* runtime, std::unique_ptr<io::Device> device);

char* copy_text(const std::string& text);  // for bb_string_free

// A source is part of bb_runtime_get_metrics() from watch() to unwatch(); any thread.
void watch(bb_runtime* runtime, const StatsSource& source);
void unwatch(bb_runtime* runtime, const StatsSource& source);
int get_counters(const char* call, bb_runtime* runtime, const StatsSource& source,
                 bb_io_counters* counters);
int get_stats(bb_runtime* runtime, const StatsSource& source, char** json);

}  // namespace bb::capi
