// SPDX-License-Identifier: Apache-2.0
// Mixed I/O on devices named by URI, every block of which is verified, until SIGTERM; then all of
// it is read once more. Prints a line of JSON when it begins and then each second. Exit 1: a device
// gave what it may not.
#include <memory>

#include "base/cli11.h"
#include "base/log.h"
#include "common/stop_signals.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "verified_load.h"

namespace {

using namespace bb;
using namespace bb::io;
using namespace bb::soak;

struct Options {
  std::vector<std::string> devices;  // DEPTH,URI or DEPTH,errors,URI
  std::vector<std::string> visits;
  uint64_t iops_max = 300;
  uint64_t seed = 1;
};

struct Target {
  uint64_t depth = 1;
  std::unique_ptr<Device> device;
  std::unique_ptr<VerifiedLoad> load;
};

std::string cut_field(std::string* text) {
  size_t comma = text->find(',');
  std::string field = text->substr(0, comma);
  text->erase(0, comma + 1);
  return field;
}

// On a machine that is busy with other things a handshake may take too long: it is tried again.
Task<Result<std::unique_ptr<Device>>> open_patiently(Context context, std::string uri) {
  for (int tries_left = 60;; --tries_left) {
    auto opened = co_await open_device(context, uri);
    bool again = opened.code() == Code::k_unavailable || opened.code() == Code::k_timed_out;
    if (!again || tries_left == 0) co_return opened;
    co_await context.loop.sleep_for(kNsPerSecond);
  }
}

// Opens a device, reads a little, and goes away again.
Task<void> visit(Context context, std::string uri, Tally* tally) {
  AlignedBuffer buffer(4096);
  while (!tally->stop) {
    auto opened = co_await open_device(context, uri);
    if (opened.ok()) {
      Status status = co_await (*opened)->read(0, buffer.bytes());
      if (status.ok()) ++tally->visits;
      Status closed = co_await (*opened)->close();
      if (!closed.ok()) tally->fail(closed.to_string());
    }
    co_await context.loop.sleep_for(kNsPerSecond);
  }
}

void report(const std::vector<Target>& targets, const Tally& tally) {
  uint64_t reconnects = 0;
  for (const Target& one : targets) {
    for (const EventCount& event : one.device->event_counts()) {
      if (event.name == "reconnects") reconnects += event.count;
    }
  }
  std::string failed;
  for (const auto& [code, count] : tally.failed) {
    failed += fmt::format("{}\"{}\": {}", failed.empty() ? "" : ", ", code, count);
  }
  fmt::print(
      "{{\"ios\": {}, \"bytes\": {}, \"visits\": {}, \"reconnects\": {}, \"failed\": {{{}}}}}\n",
      tally.ios, tally.bytes, tally.visits, reconnects, failed);
  std::fflush(stdout);
}

Task<void> watch(Loop* loop, const std::vector<Target>* targets, Tally* tally, TaskGroup* working) {
  bool filled = false;
  while (working->running() > 0) {
    if (!filled) {
      filled = std::all_of(targets->begin(), targets->end(),
                           [](const Target& one) { return one.load->filled(); });
    }
    if (filled) report(*targets, *tally);
    co_await loop->sleep_for(kNsPerSecond);
  }
}

Task<void> stop_at_signal(program::StopSignals* signals, Tally* tally) {
  co_await signals->stop().wait();
  tally->stop = true;
}

Task<Status> open_all(Context context, const Options* options, Pacer* pacer, Tally* tally,
                      std::vector<Target>* targets) {
  for (std::string text : options->devices) {
    BB_CO_ASSIGN(uint64_t depth, parse_u64(cut_field(&text)));
    bool may_fail = text.starts_with("errors,");
    if (may_fail) (void)cut_field(&text);
    BB_CO_ASSIGN(auto device, co_await open_patiently(context, text));
    auto load = std::make_unique<VerifiedLoad>(context.loop, *device, *pacer, *tally,
                                               targets->size() + 1, may_fail);
    targets->push_back({depth, std::move(device), std::move(load)});
  }
  co_return Status();
}

Task<void> use_all(Context context, const Options* options, program::StopSignals* signals,
                   Tally* tally, const std::vector<Target>* targets) {
  Prng prng(options->seed);
  TaskGroup working(context.loop);
  TaskGroup others(context.loop);
  for (const Target& one : *targets) one.load->start(working, one.depth, prng);
  others.spawn(watch(&context.loop, targets, tally, &working));
  others.spawn(stop_at_signal(signals, tally));
  for (const std::string& uri : options->visits) working.spawn(visit(context, uri, tally));
  co_await working.join();
  signals->stop().set();
  co_await others.join();
  report(*targets, *tally);
}

Task<Status> run(Context context, const Options* options, program::StopSignals* signals,
                 Tally* tally) {
  Pacer pacer(context.loop, options->iops_max);
  std::vector<Target> targets;
  Status status = co_await open_all(context, options, &pacer, tally, &targets);
  if (status.ok()) co_await use_all(context, options, signals, tally, &targets);
  for (Target& one : targets) {
    Status closed = co_await one.device->close();
    if (!closed.ok()) tally->fail(closed.to_string());
  }
  if (status.ok() && !tally->wrong.empty()) status = error(Code::k_corrupt, "{}", tally->wrong);
  co_return status;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Verified I/O until SIGTERM", "io_load");
  app.add_option("--device", options.devices, "DEPTH,URI; DEPTH,errors,URI where I/O may fail")
      ->required();
  app.add_option("--visit", options.visits, "URI that is opened and closed again and again");
  app.add_option("--iops-max", options.iops_max)->check(CLI::Range(1u, 1'000'000u));
  app.add_option("--seed", options.seed);
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kError);
  auto runtime = Runtime::create(false, {.spin = false});
  if (!runtime.ok()) return 1;
  Tally tally;
  program::StopSignals signals((*runtime)->reactor());
  Status status =
      (*runtime)->reactor().block_on(run((*runtime)->context(), &options, &signals, &tally));
  if (!status.ok()) fmt::print(stderr, "io_load: {}\n", status.to_string());
  return status.ok() ? 0 : 1;
}
