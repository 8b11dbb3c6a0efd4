// SPDX-License-Identifier: Apache-2.0
// What mirrors cost, on members in memory, one core, beside one such member alone: 4 KiB random
// reads and writes at a queue depth, without and with checksums. The bitmap is on, as always; after
// the first round all its bits are set, as they are where writes come in a steady stream.
// In turns, medians of CPU time; this measures, it does not judge.
#include <algorithm>
#include <cstdio>

#include "base/cli11.h"
#include "base/log.h"
#include "base/prng.h"
#include "base/units.h"
#include "io/buffer.h"
#include "io/device_uri.h"
#include "io/runtime.h"
#include "io/sync.h"
#include "measure.h"
#include "raid/array.h"

namespace {

using namespace bb;
using namespace bb::bench;
using namespace bb::raid;
using io::Task;

constexpr uint64_t kBlockBytes = 4 * KiB;
constexpr uint64_t kCount = 40'000;

std::unique_ptr<io::Device> open_memory(io::Runtime& runtime, uint64_t bytes) {
  std::string uri = fmt::format("mem:{}?huge_pages=on", bytes);
  return std::move(runtime.reactor().block_on(io::open_device(runtime.context(), uri)).value());
}

std::unique_ptr<io::Device> make_mirror(io::Runtime& runtime, Authority* authority, uint32_t copies,
                                        uint64_t bytes, Integrity integrity) {
  ArrayCreate what;
  what.name = "bench";
  what.assume_clean = true;
  what.integrity = integrity;
  for (uint32_t i = 0; i < copies; ++i) {
    what.members.push_back(MemberDevice::own(open_memory(runtime, bytes)));
  }
  auto array = runtime.reactor().block_on(
      raid::Array::create(runtime.context(), std::move(what), authority));
  BB_CHECK(array.ok(), "{}", array.status().to_string());
  return std::move(array).value();
}

Task<void> work(io::Device* device, bool writes, Prng prng, uint64_t count) {
  io::AlignedBuffer buffer(kBlockBytes);
  prng.fill(buffer.bytes());
  uint64_t blocks = device->info().size_bytes / kBlockBytes;
  for (; count > 0; --count) {
    uint64_t at = prng.below(blocks) * kBlockBytes;
    Status status = writes ? co_await device->write(at, buffer.bytes())
                           : co_await device->read(at, buffer.bytes());
    BB_CHECK(status.ok(), "{}", status.to_string());
  }
}

Task<int> work_at_depth(io::Loop* loop, io::Device* device, bool writes, uint32_t depth) {
  io::TaskGroup group(*loop);
  for (uint32_t i = 0; i < depth; ++i) {
    group.spawn(work(device, writes, Prng(i + 1), kCount / depth));
  }
  co_await group.join();
  co_return 0;
}

Task<int> close(io::Device* device) {
  (void)co_await device->close();
  co_return 0;
}

void compare(io::Runtime& runtime, uint32_t copies, uint32_t depth, uint64_t bytes,
             uint32_t rounds) {
  Authority authorities[2];
  std::unique_ptr<io::Device> devices[] = {
      open_memory(runtime, bytes),
      make_mirror(runtime, &authorities[0], copies, bytes, Integrity::kNone),
      make_mirror(runtime, &authorities[1], copies, bytes, Integrity::kCrc32c)};
  for (bool writes : {true, false}) {  // so that what is read was written, and has a checksum
    std::vector<double> micros[3];
    for (uint32_t round = 0; round <= rounds; ++round) {
      for (size_t i = 0; i < std::size(devices); ++i) {
        double start = cpu_seconds();
        (void)runtime.reactor().block_on(
            work_at_depth(&runtime.reactor(), devices[i].get(), writes, depth));
        if (round > 0) micros[i].push_back((cpu_seconds() - start) / kCount * 1e6);
      }
    }
    double bare = median(micros[0]);
    double plain = median(micros[1]);
    double checked = median(micros[2]);
    std::printf(
        "1.%u 4 KiB %-6s depth %-3u bare %5.2f us   mirror %5.2f us %3.0f %%   "
        "checked %5.2f us %3.0f %%\n",
        copies, writes ? "writes" : "reads", depth, bare, plain, 100 * bare / plain, checked,
        100 * bare / checked);
  }
  for (auto& device : devices) (void)runtime.reactor().block_on(close(device.get()));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What mirrors cost, on members in memory, one core.", "mirrors"};
  uint64_t megabytes = 64;
  uint32_t rounds = 5;
  std::vector<uint32_t> copies = {2};
  std::vector<uint32_t> depths = {1, 32};
  app.add_option("--copies", copies, "members of the mirror")->capture_default_str();
  app.add_option("--depth", depths, "of requests")->capture_default_str();
  app.add_option("--mib", megabytes, "of each member")->capture_default_str();
  app.add_option("--rounds", rounds, "of which the median counts")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  set_log_level(LogLevel::kWarn);
  auto runtime = std::move(io::Runtime::create(false)).value();
  for (uint32_t count : copies) {
    for (uint32_t depth : depths) compare(*runtime, count, depth, megabytes * MiB, rounds);
  }
  return 0;
}
