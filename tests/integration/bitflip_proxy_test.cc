// SPDX-License-Identifier: Apache-2.0
// Initiator, a proxy that inverts one bit at a time, target: with digests every flip is noticed and
// no wrong byte is delivered or stored; without them the same test must see wrong bytes.
// BB_FLIPS sets the number of flips.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/log.h"
#include "base/units.h"
#include "io/nvme/nvme_device.h"
#include "support/flip_proxy.h"
#include "support/nvme_host.h"

namespace bb::test {
namespace {

using io::DeviceState;
using io::Task;
using io::nvme::NvmeDevice;

constexpr uint64_t kWorkers = 6;
constexpr uint64_t kRegionBytes = 256 * KiB;

struct Trial {
  World* world = nullptr;
  NvmeHost* host = nullptr;
  FlipProxy* proxy = nullptr;
  NvmeDevice* device = nullptr;
  uint64_t flips = 0;
  bool until_wrong = false;  // stop at the first wrong byte
  bool stop = false;
  uint64_t flipped = 0;
  uint64_t undetected = 0;
  uint64_t wrong_reads = 0;
  uint64_t wrong_on_drive = 0;
  uint64_t checked = 0;
  uint64_t gave_up = 0;
  std::string strange;
};

// Whatever failed is done again until it works: only what was acknowledged is judged.
Task<bool> insist(Trial* run, uint64_t at, Bytes bytes, bool write) {
  for (int tries = 0; tries < 10'000 && !run->stop; ++tries) {
    Status status;
    if (write) {
      status = co_await run->device->write(at, bytes);
    } else {
      status = co_await run->device->read(at, bytes);
    }
    if (status.ok()) co_return true;
    // Damaged too often is an error, and a clean one.
    bool gave_up = status.text().find("data damaged on the way") != std::string::npos;
    if (gave_up) ++run->gave_up;
    bool expected = gave_up || status.code() == Code::k_unavailable || run->until_wrong;
    if (!expected) run->strange = status.to_string();
    co_await run->world->reactor->sleep_for(kNsPerMs);
  }
  co_return false;
}

Task<void> worker(Trial* run, uint64_t number) {
  Prng prng(number + 1);
  uint64_t base = number * kRegionBytes;
  std::vector<std::byte> out;
  std::vector<std::byte> in;
  while (!run->stop) {
    // Small I/O makes many headers, large makes R2Ts and long data.
    uint64_t length = 512 * (prng.chance(3) ? prng.between(1, 128) : prng.between(1, 8));
    uint64_t at = base + 512 * prng.below((kRegionBytes - length) / 512 + 1);
    out.resize(length);
    in.assign(length, std::byte{0});
    prng.fill(out);
    bool wrote = co_await insist(run, at, out, true);
    if (!wrote) break;
    std::vector<std::byte> stored(length);
    Status direct = co_await run->host->device().read(at, stored);
    if (!direct.ok() || stored != out) ++run->wrong_on_drive;
    bool got = co_await insist(run, at, in, false);
    if (!got) break;
    if (in != stored) ++run->wrong_reads;
    ++run->checked;
  }
}

uint64_t noticed(const Trial& run) {
  const io::nvme::NvmeStats& stats = run.device->stats();
  return stats.digest_errors + stats.reconnects + stats.connect_failures +
         run.host->target().counters(NvmeHost::kNqn).digest_errors;
}

Task<void> flipper(Trial* run) {
  io::Loop& loop = *run->world->reactor;
  Prng prng(99);
  while (run->flipped < run->flips &&
         (!run->until_wrong || (run->wrong_reads == 0 && run->wrong_on_drive == 0))) {
    uint64_t before = noticed(*run);
    bool at_header = prng.chance(10);
    run->proxy->arm(prng.below(at_header ? 500 : 20'000), at_header);
    uint64_t until = loop.now_ns() + 5 * kNsPerSecond;
    while (run->proxy->armed() && loop.now_ns() < until) co_await loop.sleep_for(50'000);
    if (run->proxy->armed()) {
      run->strange = "no traffic for 5 seconds: " + run->device->stats().last_error.to_string();
      break;
    }
    ++run->flipped;
    until = loop.now_ns() + (run->until_wrong ? 20 * kNsPerMs : 3 * kNsPerSecond);
    while (noticed(*run) == before && loop.now_ns() < until) co_await loop.sleep_for(50'000);
    if (noticed(*run) == before) ++run->undetected;
    // The next flip is for a connection that works again.
    until = loop.now_ns() + 5 * kNsPerSecond;
    while (run->device->state() != DeviceState::kReady && loop.now_ns() < until) {
      co_await loop.sleep_for(100'000);
    }
  }
  run->stop = true;
}

Task<void> everything(Trial* run) {
  io::TaskGroup group(*run->world->reactor);
  for (uint64_t i = 0; i < kWorkers; ++i) group.spawn(worker(run, i));
  group.spawn(flipper(run));
  co_await group.join();
}

void go(Trial& run, World& world, const std::string& options) {
  set_log_level(LogLevel::kOff);
  NvmeHost host(world, "mem:8M");
  FlipProxy proxy(world.context, host.address(), 7);
  auto opened =
      world.run(io::open_device(world.context, NvmeHost::uri_at(proxy.address(), options)));
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  auto* device = static_cast<NvmeDevice*>(opened->get());
  run.world = &world;
  run.host = &host;
  run.proxy = &proxy;
  run.device = device;
  world.run(everything(&run));
  const io::nvme::NvmeStats& stats = device->stats();
  fmt::print(
      "{} flips ({} to the target, {} to the host), {} unnoticed; {} write-read pairs checked, "
      "{} wrong on the drive, {} wrong reads; {} damaged, {} sent again, {} given up, "
      "{} reconnects\n",
      run.flipped, proxy.flips(0), proxy.flips(1), run.undetected, run.checked, run.wrong_on_drive,
      run.wrong_reads, stats.digest_errors, stats.retries, run.gave_up, stats.reconnects);
  EXPECT_EQ(run.strange, "");
  Status closed = world.run(device->close());
  EXPECT_TRUE(closed.ok()) << closed.to_string();
  opened->reset();
  world.run(proxy.stop());
  world.run(host.stop_all());
}

uint64_t flips_wanted(uint64_t otherwise) {
  const char* text = std::getenv("BB_FLIPS");
  return text == nullptr ? otherwise : parse_u64(text).value();
}

TEST(BitFlips, WithDigestsAreAllNoticedAndDeliverNothingWrong) {
  World world;
  Trial run{.flips = flips_wanted(3000)};
  go(run, world, "?io_timeout=2s&connect_timeout=1s");
  EXPECT_EQ(run.flipped, run.flips);
  EXPECT_EQ(run.undetected, 0u);
  EXPECT_EQ(run.wrong_on_drive, 0u);
  EXPECT_EQ(run.wrong_reads, 0u);
  EXPECT_GT(run.checked, 0u);
}

TEST(BitFlips, WithoutDigestsTheSameTestSeesWrongBytes) {
  World world;
  Trial run{.flips = 2000, .until_wrong = true};
  go(run, world, "?digest=off&io_timeout=200ms&connect_timeout=500ms");
  EXPECT_GT(run.wrong_on_drive + run.wrong_reads, 0u);
}

}  // namespace
}  // namespace bb::test
