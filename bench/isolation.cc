// SPDX-License-Identifier: Apache-2.0
// One healthy device beside many whose target is dead: what the dead ones cost it. Two runtimes
// have the healthy one open, one of them nothing else; they are measured in turns, so that both see
// the same machine. bench/isolation.py drives it: a line on stdin begins a measurement.
#include <algorithm>
#include <iostream>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "load_report.h"

namespace {

using namespace bb;
using namespace bb::io;

constexpr uint32_t kBlock = 4096;
constexpr uint32_t kLarge = 128 * 1024;

struct Options {
  std::string alive;
  std::vector<std::string> dead;
  uint32_t windows = 40;
  uint32_t window_ms = 200;
};

// A user who does not give up: one large read after the other, a moment after each failure.
Task<void> insist(Loop* loop, Device* device, const bool* stop) {
  AlignedBuffer buffer(kLarge);
  Bytes bytes(static_cast<std::byte*>(buffer.as_iovec().iov_base), kLarge);
  while (!*stop) {
    Status status = co_await device->read(0, bytes);
    co_await loop->sleep_for((status.ok() ? 1 : 10) * kNsPerMs);
  }
}

// A runtime with its devices; the first is the healthy one.
struct Side {
  std::unique_ptr<Runtime> runtime = std::move(Runtime::create(true)).value();
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<uint64_t> latencies;
  std::unique_ptr<TaskGroup> users;
  bool stop = false;
};

Task<Status> open_all(Side* side, std::vector<std::string> uris) {
  Context context = side->runtime->context();
  side->users = std::make_unique<TaskGroup>(context.loop);
  for (const std::string& uri : uris) {
    BB_CO_ASSIGN(auto device, co_await open_device(context, uri));
    side->devices.push_back(std::move(device));
  }
  for (size_t i = 1; i < side->devices.size(); ++i) {
    side->users->spawn(insist(&context.loop, side->devices[i].get(), &side->stop));
  }
  co_return Status();
}

Task<Status> close_all(Side* side) {
  side->stop = true;
  co_await side->users->join();
  side->users.reset();
  for (auto& device : side->devices) BB_CO_TRY(co_await device->close());
  side->devices.clear();
  co_return Status();
}

Task<Status> measure(Side* side, uint64_t length_ns) {
  AlignedBuffer buffer(kBlock);
  Bytes bytes(static_cast<std::byte*>(buffer.as_iovec().iov_base), kBlock);
  Prng prng(side->latencies.size() + 1);
  Device& device = *side->devices.front();
  uint64_t until_ns = bench::now_ns() + length_ns;
  for (uint64_t before = bench::now_ns(); before < until_ns;) {
    uint64_t at = prng.below(device.info().size_bytes / kBlock) * kBlock;
    BB_CO_TRY(co_await device.read(at, bytes));
    uint64_t after = bench::now_ns();
    side->latencies.push_back(after - before);
    before = after;
  }
  co_return Status();
}

uint64_t percentile(std::vector<uint64_t>& sorted, double part) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<size_t>(part * static_cast<double>(sorted.size() - 1))];
}

Status run_turns(Side& alone, Side& among, const Options& options) {
  for (Side* side : {&alone, &among}) side->latencies.clear();
  for (uint32_t i = 0; i < options.windows; ++i) {
    for (Side* side : {&alone, &among}) {
      uint64_t length_ns = options.window_ms * kNsPerMs;
      BB_TRY(side->runtime->call([&] { return measure(side, length_ns); }));
    }
  }
  for (Side* side : {&alone, &among}) std::sort(side->latencies.begin(), side->latencies.end());
  auto print = [](const char* name, Side& side) {
    fmt::print("\"{}\": {{\"reads\": {}, \"p50_ns\": {}, \"p99_ns\": {}, \"p999_ns\": {}}}", name,
               side.latencies.size(), percentile(side.latencies, 0.5),
               percentile(side.latencies, 0.99), percentile(side.latencies, 0.999));
  };
  size_t away = 0;
  for (auto& device : among.devices) away += device->state() != DeviceState::kReady ? 1 : 0;
  fmt::print("{{\"unavailable\": {}, ", away);
  print("alone", alone);
  fmt::print(", ");
  print("among", among);
  fmt::print("}}\n");
  std::fflush(stdout);
  return {};
}

Status run(const Options& options) {
  Side alone;
  Side among;
  std::vector<std::string> all = {options.alive};
  all.insert(all.end(), options.dead.begin(), options.dead.end());
  BB_TRY(alone.runtime->call([&] { return open_all(&alone, {options.alive}); }));
  BB_TRY(among.runtime->call([&] { return open_all(&among, all); }));
  fmt::print("open\n");
  std::fflush(stdout);
  Status status;
  for (std::string line; status.ok() && std::getline(std::cin, line) && line != "end";) {
    status = run_turns(alone, among, options);
  }
  for (Side* side : {&alone, &among}) {
    Status closed = side->runtime->call([&] { return close_all(side); });
    if (status.ok()) status = closed;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("One healthy device beside many dead ones", "isolation");
  app.add_option("--alive", options.alive, "URI")->required();
  app.add_option("--dead", options.dead, "URIs of what will die");
  app.add_option("--windows", options.windows, "measurements of each side, in turns");
  app.add_option("--window-ms", options.window_ms);
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kError);
  Status status = run(options);
  if (!status.ok()) std::fprintf(stderr, "isolation: %s\n", status.to_string().c_str());
  return status.ok() ? 0 : 1;
}
