// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "sim/array_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kSector = DiskModel::kSectorBytes;
constexpr uint64_t kMs = 1'000'000;

}  // namespace

io::Task<bool> ArrayWorld::create() {
  for (uint32_t i = 0; i < shape_.members; ++i) add_drive(false);
  life_ = make_life();
  raid::ArrayCreate what;
  what.name = "sim";
  what.level = shape_.level->id;
  what.copies = shape_.copies;
  what.chunk_bytes = shape_.chunk_bytes;
  // Of what nobody wrote and nobody compared no checksum is known.
  what.assume_clean = !prng_.chance(4) && !options_.checked;
  what.region_size_bytes = region_bytes_;
  what.integrity = options_.checked ? raid::Integrity::kCrc32c : raid::Integrity::kNone;
  what.options = array_options(life_->epoch);
  for (uint32_t i = 0; i < shape_.members; ++i) {
    connect(*life_, i);
    what.members.push_back(raid::MemberDevice::borrow(*life_->cables[i], slots_[i].label));
  }
  io::Context context{.loop = life_->node, .network = *port_};
  auto array = co_await raid::Array::create(context, std::move(what), life_->client.get());
  if (!array.ok()) {
    fail("create: " + array.status().to_string());
    co_return false;
  }
  life_->array = std::move(*array);
  uuid_ = life_->array->uuid();
  uint64_t sectors = life_->array->info().size_bytes / kSector;
  model_ = std::make_unique<DiskModel>(sectors);
  uint64_t blocks = sectors * kSector / block_;
  hot_count_ = std::min<uint64_t>(blocks, prng_.between(4, 64));
  hot_first_ = prng_.below(blocks - hot_count_ + 1);
  note("created", sectors, shape_.members, block_);
  start_host(*life_);
  co_return true;
}

void ArrayWorld::start_host(Life& life) {
  for (uint32_t i = 0; i < workers_; ++i) life.hosts.spawn(host_worker(&life, prng_.fork()));
  life.admin.spawn(healer(&life, prng_.fork()));
}

io::Task<void> ArrayWorld::crash_later(Life* life, uint64_t delay_ns) {
  co_await world_.sleep_for(delay_ns);
  if (life_.get() == life) crash(std::move(life_));
}

// Assembles from the drives that answer. False when that failed, or it crashed on the way.
io::Task<bool> ArrayWorld::start_life(std::vector<size_t> which, uint64_t crash_within_ns) {
  life_ = make_life();
  Life* life = life_.get();
  note("start", life->epoch, which.size());
  raid::ArrayAssemble what;
  what.uuid = uuid_;
  what.options = array_options(life->epoch);
  bool lost = false;
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    // A copy that lost unflushed writes unseen is still a copy by the record, and may be used.
    const raid::MemberRecord* member = member_of(slot);
    if (!slots_[slot].lost_power || member == nullptr) continue;
    lost = lost || (member->state == raid::MemberState::kInSync &&
                    member->generation <= slots_[slot].lost_version);
  }
  if (lost) model_->lose_unflushed();
  for (size_t slot : which) {
    connect(*life, slot);
    what.devices.push_back(raid::MemberDevice::borrow(*life->cables[slot], slots_[slot].label));
  }
  if (crash_within_ns > 0) faults_.spawn(crash_later(life, crash_within_ns));
  io::Context context{.loop = life->node, .network = *port_};
  life->starting = true;
  auto array = co_await raid::Array::assemble(context, std::move(what), life->client.get());
  life->starting = false;
  note("assembled", life->epoch, static_cast<uint64_t>(array.code()));
  if (array.ok()) life->array = std::move(*array);
  if (life->crashed) co_return false;
  if (!array.ok()) {
    if (options_.trace_to != nullptr) {
      fmt::print(options_.trace_to, "assemble: {}\n", array.status().to_string());
    }
    crash(std::move(life_));
    co_return false;
  }
  start_host(*life);
  co_return true;
}

io::Task<bool> ArrayWorld::start_with_retries() {
  uint64_t tries = settling_ ? 20 : 4;
  for (uint64_t i = 0; i < tries && life_ == nullptr; ++i) {
    refresh_budget();
    uint64_t bomb = !settling_ && prng_.chance(4) ? duration(0, 20 * kMs) + 1 : 0;
    if (co_await start_life(answering_slots(), bomb)) co_return true;
    co_await world_.sleep_for(duration(1 * kMs, 100 * kMs));
  }
  co_return life_ != nullptr;
}

// Everything is in-sync, clean, and nobody waits.
io::Task<bool> ArrayWorld::converge() {
  uint64_t deadline = world_.now_ns() + 120'000 * kMs;
  std::string last;
  while (world_.now_ns() < deadline) {
    co_await world_.sleep_for(20 * kMs);
    raid::ArrayInfo info = life_->array->describe();
    bool even = info.dirty_regions == 0 && life_->hosts.running() == 0 && life_->commands == 0;
    for (const raid::ArrayMemberInfo& member : info.members) {
      if (member.state == raid::MemberState::kRemoved) continue;
      even =
          even && member.state == raid::MemberState::kInSync && member.present && !member.suspect;
    }
    if (even) co_return true;
    last = fmt::format("{} ({}), {} dirty regions, {} host workers", info.state, info.detail,
                       info.dirty_regions, life_->hosts.running());
    bool dead = info.state == "recover" || info.state == "fenced";
    if (dead) {
      crash(std::move(life_));
      if (!co_await start_with_retries()) break;
    }
  }
  if (!options_.above_budget) fail("does not converge: " + last);
  co_return false;
}

io::Task<void> ArrayWorld::verify_reads() {
  uint64_t total = model_->sectors();
  std::vector<std::byte> buffer;
  for (uint64_t first = 0; first < total && !life_->ended(); first += 256) {
    co_await host_read(life_.get(), first, std::min<uint64_t>(256, total - first), &buffer);
  }
}

// Which drive holds the copy, if it is in-sync there.
const SectorStore* ArrayWorld::in_sync_medium(uint32_t slot, std::string* label) const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const raid::MemberRecord* member = member_of(i);
    if (member == nullptr || member->state != raid::MemberState::kInSync) continue;
    if (member->slot != slot) continue;
    *label = slots_[i].label;
    return &slots_[i].drive->medium();
  }
  return nullptr;
}

// The in-sync copies hold the same bytes, and those are what the host may read.
void ArrayWorld::verify_copies() {
  uint64_t data = authority_.record().data_offset_bytes;
  uint64_t size = model_->sectors() * kSector;
  uint64_t most = 65'536;
  std::vector<std::byte> mine(most);
  std::vector<std::byte> other(most);
  if (shape_.level->parity > 0) return;  // close_and_reopen() reads without some members
  for (uint64_t at = 0; at < size;) {
    uint64_t length = raid::first_piece(shape_, at, std::min(most, size - at)).length_bytes;
    bool first = true;
    for (uint32_t copy = 0; copy < shape_.copies; ++copy) {
      raid::CopyPlace place = raid::copy_place(shape_, at, copy);
      std::string label;
      const SectorStore* medium = in_sync_medium(place.slot, &label);
      // An unreadable sector on one copy is no difference: the others answer for it.
      Bytes into = Bytes(other).first(length);
      if (medium == nullptr || !medium->read(data + place.offset_bytes, into)) continue;
      if (first) {
        mine = other;
        first = false;
        std::string problem =
            model_->end_read(model_->begin_read(), at / kSector, ConstBytes(mine).first(length));
        if (!problem.empty()) return fail(fmt::format("copy on {}: {}", label, problem));
      } else if (std::memcmp(mine.data(), other.data(), length) != 0) {
        return fail(
            fmt::format("the copies differ between {} and {} (on {})", at, at + length, label));
      }
    }
    at += length;
  }
}

io::Task<void> ArrayWorld::close_and_reopen() {
  life_->closing = true;
  std::unique_ptr<Life> old = std::move(life_);
  co_await old->hosts.join();
  Status closed = co_await old->array->close();
  if (!closed.ok()) fail("close: " + closed.to_string());
  co_await dismantle(old.get());
  old.reset();
  if (!co_await start_with_retries()) {
    // Above the budget every superblock may have rotted while the array ran.
    bool ruined = options_.above_budget && superblock_rotted_;
    if (!ruined) fail("a cleanly closed array does not start again");
    co_return;
  }
  raid::ArrayInfo info = life_->array->describe();
  if (info.dirty_regions != 0 && !bitmap_rotted_) {
    fail(fmt::format("{} regions are dirty after a clean close", info.dirty_regions));
  }
  co_await verify_reads();
  life_->closing = true;
  std::unique_ptr<Life> last = std::move(life_);
  co_await dismantle(last.get());
  last.reset();
  if (shape_.level->parity > 0) co_await reopen_without_some();
}

// What parity says is what the host may read too.
io::Task<void> ArrayWorld::reopen_without_some() {
  uint64_t there = whole_slots(slots_.size());
  std::vector<size_t> which;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const raid::MemberRecord* member = member_of(i);
    if (member == nullptr || member->state != raid::MemberState::kInSync) continue;
    uint64_t without = there & ~(uint64_t{1} << member->slot);
    bool away = shape_.survives(~without) && prng_.chance(2);
    if (away) {
      there = without;
    } else {
      which.push_back(i);
    }
  }
  note("without", there);
  if (!co_await start_life(which, 0)) {
    if (!options_.above_budget) fail("does not start without members that it can do without");
    co_return;
  }
  co_await verify_reads();
  life_->closing = true;
  std::unique_ptr<Life> last = std::move(life_);
  co_await dismantle(last.get());
}

// Phase 2: the faults stop. Everything must come together again.
io::Task<void> ArrayWorld::finish() {
  settling_ = true;
  note("settling");
  co_await faults_.join();
  for (size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].drive->power_on();
    reconnect(i);
  }
  refresh_budget();
  if (life_ == nullptr && !co_await start_with_retries()) {
    if (!options_.above_budget) fail("does not start again although all drives answer");
    co_return;
  }
  bool even = co_await converge();
  if (even && options_.checked) {
    co_await verify_reads();
    co_await scrub_until_right();
    even = co_await converge();
  }
  if (life_ == nullptr || !violation_.empty()) co_return;
  co_await verify_reads();
  if (even) {
    verify_copies();
    co_await close_and_reopen();
  } else {
    crash(std::move(life_));
  }
}

io::Task<void> ArrayWorld::main() {
  if (!co_await create()) co_return;
  co_await nemesis();
  co_await finish();
  if (life_ != nullptr) crash(std::move(life_));
  co_await drains_.join();
  co_await authority_.drain();
  done_ = true;
}

RunResult run_array(const RunOptions& options) {
  auto world = std::make_unique<ArrayWorld>(options);
  RunResult result = world->run();
  // A run that found something stands still in the middle of its coroutines: it is left as it is.
  if (!world->drained()) (void)world.release();
  return result;
}

}  // namespace bb::sim
