// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "sim/array_world.h"

namespace bb::sim {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kMetadataBytes = 1u << 20;  // superblock and bitmap lie below

enum DriveFault : uint32_t {
  kDisconnect,
  kPower,
  kStuck,
  kShortlyStuck,
  kErrors,
  kBroken,
  kFull,
  kSlow,
  kLatent,
  kRot,
  kDriveFaults,
  kSilence = kDriveFaults,  // of arrays with checksums, and likelier than the others
  kDriveFaultsChecked = kSilence + 5,
};

}  // namespace

// A struck drive counts as lost until it is seen to be whole: in-sync by the record (anew, where
// the fault makes the array remove it) and in use.
void ArrayWorld::refresh_budget() {
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    const raid::MemberRecord* member = member_of(i);
    bool in_sync = member != nullptr && member->state == raid::MemberState::kInSync;
    // Not trusted, and no promotion that was asked for before the loss may yet be stored; or
    // trusted anew.
    bool settled = authority_.record().version >= slot.lost_version;
    if (slot.lost_power && (in_sync ? member->generation > slot.lost_version : settled)) {
      slot.lost_power = false;
    }
    if (!slot.tainted || slot.fault_active || !in_sync) continue;
    if (slot.drive->medium().unreadable_sectors() > 0) continue;
    if (world_.now_ns() < slot.quiet_from_ns) continue;
    if (slot.drive->medium().wrong_sectors() > 0) mend_free_rows(i, false);
    if (slot.drive->medium().wrong_sectors() > 0) continue;
    // Its removal is on its way: in-sync by the record now, and perhaps not in a moment.
    if (slot.leaving_epoch != 0 && authority_.record().epoch <= slot.leaving_epoch) continue;
    if (slot.needs_rejoin && member->generation <= slot.version) continue;
    if (life_ == nullptr || life_->array == nullptr || life_->node.paused()) continue;
    for (const raid::ArrayMemberInfo& info : life_->array->describe().members) {
      if (info.uuid != member->uuid || !info.present || info.suspect) continue;
      if (info.state == raid::MemberState::kInSync) slot.tainted = false;
    }
  }
}

bool ArrayWorld::whole(size_t slot) const {
  const raid::MemberRecord* member = member_of(slot);
  return member != nullptr && member->state == raid::MemberState::kInSync &&
         !slots_[slot].fault_active && !slots_[slot].tainted;
}

bool ArrayWorld::all_whole() const {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const raid::MemberRecord* member = member_of(i);
    if (member != nullptr && member->state == raid::MemberState::kInSync && !whole(i)) return false;
  }
  return true;
}

// The budget: whole members that hold everything stay, whatever happens to the others.
bool ArrayWorld::may_fault(size_t slot) const {
  if (slots_[slot].fault_active) return false;
  if (options_.above_budget) return true;
  return shape_.survives(~whole_slots(slot));
}

// Slots of the shape with a whole member, but for that of one drive.
uint64_t ArrayWorld::whole_slots(size_t without) const {
  uint64_t mask = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (i != without && whole(i)) mask |= uint64_t{1} << member_of(i)->slot;
  }
  return mask;
}

// A commit under way may be stored later: what it says was asked for before now.
uint64_t ArrayWorld::latest_version() const {
  return std::max(authority_.record().version, authority_.proposed());
}

uint64_t ArrayWorld::sound_slots() const {
  uint64_t mask = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const raid::MemberRecord* member = member_of(i);
    bool in_sync = member != nullptr && member->state == raid::MemberState::kInSync;
    if (!in_sync || !slots_[i].drive->powered()) continue;
    if (slots_[i].drive->medium().unreadable_sectors() > 0) continue;
    if (slots_[i].drive->medium().wrong_sectors() > 0) continue;
    mask |= uint64_t{1} << member->slot;
  }
  return mask;
}

void ArrayWorld::strike(size_t index, bool needs_rejoin) {
  Slot& slot = slots_[index];
  slot.tainted = true;
  slot.needs_rejoin = slot.needs_rejoin || needs_rejoin;
  slot.version = latest_version();
}

void ArrayWorld::reconnect(size_t slot) {
  SimCable* held = cable(slot);
  if (held != nullptr) held->reconnect();
}

io::Task<void> ArrayWorld::lose_drive_power(size_t index, uint64_t duration_ns) {
  ++stats_.power_losses;
  slots_[index].lost_power = true;
  slots_[index].lost_version = latest_version();
  slots_[index].drive->power_off();
  if (options_.above_budget) model_->lose_unflushed();
  co_await world_.sleep_for(duration_ns);
  slots_[index].drive->power_on();
}

io::Task<void> ArrayWorld::stick_drive(size_t index, uint64_t duration_ns) {
  slots_[index].drive->set_stuck(true);
  co_await world_.sleep_for(duration_ns);
  SimCable* held = cable(index);
  if (held != nullptr) held->disconnect();  // keep-alive has run out
  slots_[index].drive->set_stuck(false);
  co_await world_.sleep_for(duration(1 * kMs, 50 * kMs));
}

void ArrayWorld::damage_medium(size_t index, bool rot) {
  SectorStore& medium = slots_[index].drive->medium();
  uint64_t count = prng_.between(1, 4);
  for (uint64_t i = 0; i < count; ++i) {
    if (rot) {  // of what carries checksums: superblocks and bitmap
      uint64_t within = prng_.below(4096);
      uint64_t where = prng_.below(4);  // copy A, the bitmap, copy B
      uint64_t at = where < 2 ? where * 65'536 + within : drive_bytes_ - 65'536 + within;
      bitmap_rotted_ = bitmap_rotted_ || where == 1;
      superblock_rotted_ = superblock_rotted_ || where != 1;
      medium.flip_bit(at, static_cast<uint32_t>(prng_.below(8)));
    } else {
      bool metadata = prng_.chance(6);
      uint64_t at = metadata ? prng_.below(2) * 65'536
                             : kMetadataBytes + prng_.below(drive_bytes_ - kMetadataBytes);
      bitmap_rotted_ = bitmap_rotted_ || metadata;
      medium.make_unreadable(at);
    }
  }
}

io::Task<void> ArrayWorld::drive_fault(size_t index, uint32_t kind, uint64_t duration_ns) {
  note("fault", index, kind, duration_ns);
  ++stats_.drive_faults;
  slots_[index].fault_active = true;
  SimDriveFaults& random = slots_[index].drive->faults();
  bool rejoin = kind == kDisconnect || kind == kPower || kind == kStuck || kind == kRot;
  strike(index, rejoin);
  if (kind >= kSilence) co_await lie_silently(index, duration_ns);
  switch (static_cast<DriveFault>(kind)) {
    case kDisconnect:
      if (cable(index) != nullptr) cable(index)->disconnect();
      co_await world_.sleep_for(duration_ns);
      break;
    case kPower:
      co_await lose_drive_power(index, duration_ns);
      break;
    case kStuck:
      co_await stick_drive(index, duration_ns);
      break;
    case kShortlyStuck:
      slots_[index].drive->set_stuck(true);
      co_await world_.sleep_for(duration(1 * kMs, 30 * kMs));
      slots_[index].drive->set_stuck(false);
      break;
    case kErrors:
      random.read_error_one_in = static_cast<uint32_t>(prng_.below(8));
      random.write_error_one_in = static_cast<uint32_t>(prng_.below(8));
      random.flush_error_one_in = static_cast<uint32_t>(prng_.below(3));
      co_await world_.sleep_for(duration_ns);
      random = {};
      break;
    case kBroken:
      slots_[index].drive->set_broken(true);
      co_await world_.sleep_for(duration_ns);
      slots_[index].drive->set_broken(false);
      break;
    case kFull:
      slots_[index].drive->set_full(true);
      co_await world_.sleep_for(duration_ns);
      slots_[index].drive->set_full(false);
      break;
    case kSlow:
      random.slow_one_in = 3;
      co_await world_.sleep_for(duration_ns);
      random = {};
      break;
    case kLatent:
    case kRot:
      damage_medium(index, kind == kRot);
      break;
    case kDriveFaults:
    case kDriveFaultsChecked:
      break;
  }
  if (options_.canary == Canary::kLostWrites) random.lost_write_one_in = 8;
  reconnect(index);
  // Whoever was hit by it learns of it within the latency of the slowest request.
  slots_[index].quiet_from_ns = world_.now_ns() + 100 * kMs;
  strike(index, false);
  slots_[index].fault_active = false;
  note("fault over", index, kind);
}

void ArrayWorld::start_drive_fault(size_t slot) {
  uint32_t kinds = may_lie() ? kDriveFaultsChecked : kDriveFaults;
  auto kind = static_cast<uint32_t>(prng_.below(kinds));
  uint64_t length = prng_.chance(3) ? duration(1 * kMs, 10 * kMs) : duration(10 * kMs, 600 * kMs);
  faults_.spawn(drive_fault(slot, kind, length));
}

io::Task<void> ArrayWorld::disturb_authority(uint64_t duration_ns) {
  note("authority disturbed", duration_ns);
  authority_disturbed_ = true;
  bool down = prng_.chance(3);
  AuthorityFaults& faults = authority_.faults();
  faults.lost_request_one_in = static_cast<uint32_t>(prng_.between(2, 6));
  faults.lost_reply_one_in = static_cast<uint32_t>(prng_.between(2, 6));
  faults.late_one_in = static_cast<uint32_t>(prng_.between(2, 6));
  if (down) authority_.set_down(true);
  co_await world_.sleep_for(duration_ns);
  if (down) authority_.set_down(false);
  authority_.faults() = {};
  authority_disturbed_ = false;
  note("authority well");
}

// The most dangerous moments are those around a commit.
io::Task<void> ArrayWorld::wait_for_commit() {
  uint64_t version = authority_.record().version;
  uint64_t deadline = world_.now_ns() + duration(10 * kMs, 200 * kMs);
  while (world_.now_ns() < deadline && authority_.record().version == version) {
    co_await world_.sleep_for(200'000);
  }
  co_await world_.sleep_for(duration(0, 12 * kMs));
}

// The dataplane dies (all_power: the whole site) and is started again.
io::Task<void> ArrayWorld::restart_after_crash(bool all_power) {
  if (prng_.chance(3)) co_await wait_for_commit();
  co_await crash_and_restart(all_power);
}

io::Task<void> ArrayWorld::crash_and_restart(bool all_power) {
  crash(std::move(life_));
  if (options_.canary == Canary::kForgetCommit) authority_.forget_last_commit();
  if (all_power) {
    note("site power loss");
    for (Slot& slot : slots_) slot.drive->power_off();
    model_->lose_unflushed();
    for (Slot& slot : slots_) {
      if (!slot.fault_active) slot.drive->power_on();
    }
  }
  for (Slot& slot : slots_) {
    // What a life did not notice before its end is for the next one as if it had not been.
    if (!slot.fault_active) slot.needs_rejoin = false;
  }
  co_await world_.sleep_for(duration(1 * kMs, 30 * kMs));
  (void)co_await start_with_retries();
}

// A second dataplane starts while the first still runs: each drive serves the newer one from the
// moment it claims it; the authority refuses the older.
// Either of them may win the race for the record, so any in-sync drive may be the one that stays.
io::Task<void> ArrayWorld::take_over() {
  if (!options_.above_budget && !all_whole()) co_return;
  ++stats_.takeovers;
  std::unique_ptr<Life> old = std::move(life_);
  note("takeover", old->epoch);
  old->superseded = true;
  Life* before = old.get();
  draining_.push_back(std::move(old));  // connect() cuts its cables one by one
  uint64_t how = prng_.below(4);
  if (how == 0) before->node.pause();  // it was only asleep
  if (how == 1) before->client->set_blocked(true);
  std::vector<size_t> claimed = answering_slots();
  while (claimed.size() > 1 && prng_.chance(2)) claimed.pop_back();
  bool started = co_await start_life(std::move(claimed), 0);
  before->node.resume();
  before->client->set_blocked(false);
  co_await world_.sleep_for(duration(0, 300 * kMs));
  for (auto it = draining_.begin(); it != draining_.end(); ++it) {
    if (it->get() != before) continue;
    std::unique_ptr<Life> dead = std::move(*it);
    draining_.erase(it);
    crash(std::move(dead));
    break;
  }
  if (!started) (void)co_await start_with_retries();
}

io::Task<void> ArrayWorld::replace_drive() {
  size_t old = prng_.below(slots_.size());
  const raid::MemberRecord* member = member_of(old);
  if (slots_.size() >= shape_.members + 4 || member == nullptr || !may_fault(old)) co_return;
  if (member->state == raid::MemberState::kRemoved) co_return;
  Life* life = life_.get();
  if (slots_[old].leaving_epoch == life->epoch) co_return;
  Uuid uuid = member->uuid;
  add_drive(true);
  strike(old, true);
  slots_[old].leaving_epoch = life->epoch;
  size_t fresh = slots_.size() - 1;
  connect(*life, fresh);
  note("replace", old, fresh);
  life->admin.spawn(run_replace(life, uuid, old, fresh));
}

io::Task<void> ArrayWorld::fail_by_hand() {
  size_t slot = prng_.below(slots_.size());
  const raid::MemberRecord* member = member_of(slot);
  if (member == nullptr || !may_fault(slot)) co_return;
  if (member->state == raid::MemberState::kRemoved) co_return;
  if (slots_[slot].leaving_epoch == life_->epoch) co_return;  // one at a time
  strike(slot, false);
  slots_[slot].leaving_epoch = life_->epoch;
  note("fail by hand", slot);
  life_->admin.spawn(run_fail(life_.get(), member->uuid, slot));
}

// Somebody recovered: it has just been committed.
io::Task<bool> ArrayWorld::wait_for_promotion() {
  uint64_t deadline = world_.now_ns() + 3'000 * kMs;
  uint32_t before = authority_.record().count(raid::MemberState::kInSync);
  while (world_.now_ns() < deadline) {
    co_await world_.sleep_for(50'000);
    uint32_t now = authority_.record().count(raid::MemberState::kInSync);
    if (now > before) co_return true;
    before = now;
  }
  co_return false;
}

// A member goes, the host writes, the member is copied onto and called in-sync; in that moment the
// whole site loses power. All that the record now trusts must have been durable before.
io::Task<void> ArrayWorld::lose_power_at_promotion() {
  refresh_budget();
  if (life_ == nullptr || life_->array == nullptr) (void)co_await start_with_retries();
  if (life_ == nullptr || life_->array == nullptr) co_return;
  note("promotion wanted");
  ops_left_ += prng_.between(20, 60);
  for (uint32_t i = 0; i < workers_; ++i) {
    life_->hosts.spawn(host_worker(life_.get(), prng_.fork()));
  }
  co_await fail_by_hand();
  bool promoted = co_await wait_for_promotion();
  if (!promoted || life_ == nullptr) co_return;
  co_await world_.sleep_for(duration(0, 2 * kMs));
  refresh_budget();
  if (life_ != nullptr) co_await crash_and_restart(true);
}

// Which drives answer a dataplane that starts: within the budget the whole ones among them hold
// everything.
std::vector<size_t> ArrayWorld::answering_slots() {
  std::vector<size_t> slots;
  uint64_t left = whole_slots(slots_.size());
  // After a loss of power at the site nobody is seen to be whole yet: then those that can be read.
  if (!shape_.survives(~left)) left = sound_slots();
  bool budget = shape_.survives(~left);
  size_t begin = prng_.below(slots_.size());
  for (size_t step = 0; step < slots_.size(); ++step) {
    size_t i = (begin + step) % slots_.size();
    bool there = settling_ || !prng_.chance(4);
    if (!slots_[i].drive->powered()) continue;
    const raid::MemberRecord* member = member_of(i);
    uint64_t bit = member == nullptr ? 0 : uint64_t{1} << member->slot;
    bool counts = member != nullptr && member->state == raid::MemberState::kInSync;
    if (!there && budget && counts && (left & bit) != 0) {
      uint64_t without = left & ~bit;
      there = !shape_.survives(~without);
      if (!there) left = without;
    }
    if (there) {
      slots.push_back(i);
    } else {
      strike(i, true);
    }
  }
  return slots;
}

io::Task<void> ArrayWorld::one_action() {
  if (life_ == nullptr || life_->array == nullptr) {
    (void)co_await start_with_retries();
    co_return;
  }
  uint64_t kind = prng_.below(100);
  if (kind < 45) {
    size_t slot = prng_.below(slots_.size());
    if (member_of(slot) != nullptr && may_fault(slot)) start_drive_fault(slot);
  } else if (kind < 65) {
    co_await restart_after_crash(false);
  } else if (kind < 71) {
    co_await restart_after_crash(true);
  } else if (kind < 77) {
    co_await take_over();
  } else if (kind < 83) {
    co_await replace_drive();
  } else if (kind < 87) {
    co_await fail_by_hand();
  } else if (kind < 93) {
    if (!authority_disturbed_) faults_.spawn(disturb_authority(duration(1 * kMs, 3000 * kMs)));
  } else {
    note("pause");
    life_->node.pause();
    co_await world_.sleep_for(duration(1 * kMs, 1000 * kMs));
    // It hears only now of what the drives answered meanwhile.
    for (Slot& slot : slots_) slot.quiet_from_ns = world_.now_ns() + 100 * kMs;
    if (life_ != nullptr) life_->node.resume();
    if (life_ != nullptr) life_->node.jump_wall(static_cast<int64_t>(prng_.below(1u << 30)));
  }
}

io::Task<void> ArrayWorld::nemesis() {
  uint64_t actions = prng_.between(2, 12);
  for (uint64_t i = 0; i < actions; ++i) {
    uint64_t pause = prng_.chance(2) ? duration(0, 8 * kMs) : duration(1 * kMs, 150 * kMs);
    co_await world_.sleep_for(pause);
    refresh_budget();
    co_await one_action();
  }
  // At the end, so that what came before is the same whether a run has it or not.
  if (options_.seed % 3 == 0) co_await lose_power_at_promotion();
}

}  // namespace bb::sim
