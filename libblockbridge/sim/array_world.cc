// SPDX-License-Identifier: Apache-2.0
#include "sim/array_world.h"

#include <algorithm>

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
// A run that takes longer hangs; both are far above what any run needs.
constexpr uint64_t kStepsMax = 3'000'000;
constexpr uint64_t kTimeMaxNs = 3'600'000 * kMs;

// As many mirrors as striped copies as arrays with parity.
raid::Shape random_shape(Prng& prng, const RunOptions& options) {
  constexpr const char* kTexts[][6] = {{"1.2", "1.2", "1.2", "1.3", "1.3", "1.4"},
                                       {"10.4", "1E.3", "10.5", "10.4.3", "1E.5", "10.6.3"},
                                       {"5.3", "5.3", "5.4", "6.4", "6.4", "6.5"}};
  uint64_t kind = prng.below(std::size(kTexts) - (options.checked ? 1 : 0));
  if (options.checked && options.seed % 3 == 2) kind = 2;
  const char* text = kTexts[kind][prng.below(6)];
  uint64_t chunk = uint64_t{4096} << prng.below(5);
  return *raid::parse_shape(text, chunk);
}

}  // namespace

ArrayWorld::ArrayWorld(const RunOptions& options)
    : options_(options),
      world_(options.seed),
      prng_(world_.prng().fork()),
      net_(world_, {}, world_.prng().fork()),
      authority_(world_, world_.prng().fork()),
      faults_(world_),
      drains_(world_),
      top_(world_) {
  world_.trace().print_to(options.trace_to);
  port_ = net_.attach("dataplane", world_);
  shape_ = random_shape(prng_, options_);
  block_ = prng_.chance(4) ? 4096 : 512;
  drive_bytes_ = (1u << 20) + prng_.between(16, 28) * region_bytes_ + (128u << 10);
  ops_left_ = prng_.between(40, 160);
  workers_ = static_cast<uint32_t>(prng_.between(1, 6));
  heal_pause_ns_ = prng_.between(2 * kMs, 200 * kMs);
  clean_delay_ns_ =
      prng_.chance(2) ? prng_.between(1 * kMs, 20 * kMs) : prng_.between(20 * kMs, 1000 * kMs);
  auto_readmit_ = prng_.chance(4);
  errors_allowed_ = options_.above_budget || prng_.chance(8);
}

void ArrayWorld::fail(std::string violation) {
  if (violation_.empty()) violation_ = std::move(violation);
}

void ArrayWorld::note(const char* what, uint64_t a, uint64_t b, uint64_t c) {
  world_.trace().event(world_.now_ns(), what, a, b, c);
}

RunResult ArrayWorld::run() {
  top_.spawn(main());
  while (!done_ && violation_.empty()) {
    if (!world_.run_once(true)) fail("deadlock: something waits for ever");
    if (world_.steps() > kStepsMax) fail("livelock: too many steps");
    if (world_.now_ns() > kTimeMaxNs) fail("no progress within an hour of simulated time");
    if (!authority_.unlawful().empty()) fail("unlawful commit: " + authority_.unlawful());
  }
  RunResult result;
  result.violation = violation_;
  result.trace_hash = world_.trace().hash();
  result.events = world_.trace().events();
  result.stats = stats_;
  result.stats.steps = world_.steps();
  result.stats.commits = authority_.history().size();
  result.stats.fenced = authority_.fenced();
  if (model_ != nullptr) result.stats.sectors_checked = model_->reads_checked();
  return result;
}

void ArrayWorld::add_drive(bool garbage) {
  SimDriveOptions drive;
  drive.name = "d" + std::to_string(slots_.size());
  drive.size_bytes = drive_bytes_;
  drive.block_size_bytes = block_;
  drive.volatile_cache = !prng_.chance(8);
  drive.latency_max_ns = prng_.chance(4) ? 5 * kMs : 400'000;
  drive.lies_about_flush = options_.canary == Canary::kLyingFlush;
  Slot slot;
  slot.label = drive.name;
  slot.drive = std::make_unique<SimDrive>(world_, options_.pool, drive, prng_.fork());
  if (garbage) {  // whatever was on it must never be read
    std::vector<std::byte> noise(SectorStore::kPageBytes);
    for (int i = 0; i < 24; ++i) {
      prng_.fill(noise);
      uint64_t pages = (drive_bytes_ - (1u << 20)) / SectorStore::kPageBytes;
      uint64_t page = (1u << 20) / SectorStore::kPageBytes + prng_.below(pages);
      slot.drive->medium().write(page * SectorStore::kPageBytes, noise, true);
    }
  }
  slots_.push_back(std::move(slot));
}

SimCable* ArrayWorld::cable(size_t slot) {
  return life_ != nullptr && slot < life_->cables.size() ? life_->cables[slot].get() : nullptr;
}

// A drive serves one life only: the newest that claimed it.
void ArrayWorld::connect(Life& life, size_t slot) {
  for (auto& old : draining_) {
    if (slot < old->cables.size() && old->cables[slot] != nullptr) old->cables[slot]->cut();
  }
  if (life.cables.size() < slots_.size()) life.cables.resize(slots_.size());
  BB_CHECK(life.cables[slot] == nullptr, "drive {} is connected twice", slot);
  life.cables[slot] = slots_[slot].drive->connect(life.node);
}

std::unique_ptr<ArrayWorld::Life> ArrayWorld::make_life() {
  SimClock clock;
  clock.boot_ns = prng_.between(1, 1u << 30);
  clock.drift_ppm = static_cast<int32_t>(prng_.below(400)) - 200;
  clock.wall_offset_ns = static_cast<int64_t>(prng_.below(1u << 30)) - (1 << 29);
  auto life = std::make_unique<Life>(world_, clock, prng_.fork(), ++epoch_);
  life->client = authority_.connect(life->node);
  life->cables.resize(slots_.size());
  return life;
}

raid::ArrayOptions ArrayWorld::array_options(uint64_t epoch) {
  raid::ArrayOptions options;
  options.epoch = epoch;
  options.resync_bytes_per_second = prng_.chance(3) ? 8u << 20 : 1u << 30;
  options.resync_busy_bytes_per_second = prng_.chance(2) ? 1u << 20 : 64u << 20;
  options.commit_wait_ns = errors_allowed_ ? 2'000 * kMs : 60'000 * kMs;
  options.commit_retry_ns = prng_.between(1, 100) * kMs;
  options.clean_delay_ns = clean_delay_ns_;
  options.auto_readmit = auto_readmit_;
  options.readmit_delay_ns = prng_.between(1, 50) * kMs;
  options.slow_check_ns = 40 * kMs;
  options.slow_fail_ns = auto_readmit_ ? 100 * kMs : 0;
  if (options_.checked) options.checksum_pages_max = prng_.between(1, 8);
  return options;
}

const raid::MemberRecord* ArrayWorld::member_of(size_t slot) const {
  if (!authority_.exists()) return nullptr;
  const raid::MemberRecord* found = nullptr;
  for (const raid::MemberRecord& member : authority_.record().members) {
    if (member.label == slots_[slot].label) found = &member;  // the last one with the label
  }
  return found;
}

// The dataplane's process ends: from now on nothing of it has an effect. Its coroutines see all
// I/O fail and run to their end.
void ArrayWorld::crash(std::unique_ptr<Life> life) {
  if (life == nullptr || life->crashed) return;
  ++stats_.crashes;
  note("crash", life->epoch, life->pending.size());
  life->crashed = true;
  life->client->cut();
  for (auto& held : life->cables) {
    if (held != nullptr) held->cut();
  }
  for (DiskModel::OpId op : life->pending) model_->end_write(op, false);
  life->pending.clear();
  if (options_.checked) mend_dirty_regions();
  life->node.resume();
  Life* dead = life.get();
  draining_.push_back(std::move(life));
  drains_.spawn(drain(dead));
}

io::Task<void> ArrayWorld::drain(Life* life) {
  while (life->starting) co_await world_.sleep_for(1 * kMs);
  co_await dismantle(life);
  std::erase_if(draining_, [&](const auto& held) { return held.get() == life; });
}

io::Task<void> ArrayWorld::dismantle(Life* life) {
  if (life->array != nullptr) {
    Status closed = co_await life->array->close();
    note("closed", life->epoch, closed.ok() ? 0 : 1);
  }
  co_await life->hosts.join();
  co_await life->admin.join();
  life->array.reset();
  for (size_t i = 0; i < life->cables.size(); ++i) {
    if (life->cables[i] == nullptr) continue;
    (void)co_await life->cables[i]->close();
    life->cables[i].reset();
  }
}

}  // namespace bb::sim
