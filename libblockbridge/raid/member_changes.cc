// SPDX-License-Identifier: Apache-2.0
// Members leave, come back, and are replaced.
#include <algorithm>

#include "raid/array_core.h"
#include "raid/bitmap_page.h"

namespace bb::raid {
namespace {

struct Hold {
  uint32_t& count;
  explicit Hold(uint32_t& c) : count(c) { ++count; }
  Hold(const Hold&) = delete;
  ~Hold() { --count; }
};

// Who is removed may be replaced as long as nobody else has its place.
Status check_replaceable(const MembershipRecord& record, Uuid old) {
  const MemberRecord* gone = record.find(old);
  if (gone == nullptr) return error(Code::k_not_found, "no member {}", old.to_string());
  if (gone->state != MemberState::kRemoved) return {};
  for (const MemberRecord& other : record.members) {
    if (other.slot != gone->slot || other.state == MemberState::kRemoved) continue;
    return error(Code::k_not_found, "member {} was removed, and {} has its place", old.to_string(),
                 other.label);
  }
  return {};
}

io::Task<void> close_member(MemberDevice device) {
  std::vector<MemberDevice> devices;
  devices.push_back(std::move(device));
  co_await close_members(std::move(devices));
}

// What a returning member's own bitmap knows. Pages it cannot read add nothing: by rule 1 the
// in-sync members have every bit that matters; this is a second pair of eyes.
io::Task<void> add_own_bitmap(io::Device* device, Uuid array, uint32_t pages, RegionSet* into) {
  io::AlignedBuffer page(kBitmapPageBytes);
  for (uint32_t i = 0; i < pages; ++i) {
    Status status = co_await device->read(kBitmapOffsetBytes + i * kBitmapPageBytes, page.bytes());
    if (!status.ok()) continue;
    Result<BitmapPageHead> head = decode_bitmap_page(array, i, page.bytes(), *into);
    if (!head.ok()) log_debug("{}: {} -> ignored", device->info().uri, head.status().to_string());
  }
}

}  // namespace

void ArrayCore::attach(Member& member, MemberDevice device) {
  if (device.device != member.device) {
    if (member.watcher.watching) member.device->unwatch(member.watcher);
    member.device = device.device;
    member.owned = std::move(device.owned);
    member.device->watch(member.watcher);
    member.device->measure(loop_);
    member.watcher.watching = true;
  }
  if (!device.label.empty()) member.label = std::move(device.label);
  if (member.label.empty()) member.label = member.device->info().uri;
  if (member.label.size() > kLabelMaxBytes) member.label.resize(kLabelMaxBytes);
  member.ready_since_ns = loop_.now_ns();
}

// From here on the member gets every write; what it lacks is in `behind`.
void ArrayCore::activate(Member& member, RegionSet behind) {
  member.incarnation = member.device->incarnation();
  member.written_epoch = intent_.epoch();
  member.flushed_epoch = 0;
  member.covered_epoch = 0;
  member.suspect = false;
  member.detail.clear();
  member.behind = std::move(behind);
  if (checked()) member.sums = std::make_shared<Checksums>(geometry_.checked_blocks());
  member.pace = {};
  member.active = true;
  count_resync_total();
  resync_work_.set();
}

// What a member's superblock says.
Superblock ArrayCore::superblock_of(const MemberRecord& member) const {
  Superblock block = superblock_from_record(record_, member, created_wall_ns_);
  if (stripes_) {
    block.journal_life = stripes_->life();
    block.journal_number = stripes_->number();
  }
  return block;
}

// A recovering member begins to get writes.
io::Task<Status> ArrayCore::take_in(Member* member, bool everything) {
  Status status;
  auto begin = [this, member, everything, &status] {
    if (!member->listed || member->state != MemberState::kRecovering || member->active) {
      status = fail(Code::k_bad_state, "{} was changed meanwhile", name_of(*member));
      return;
    }
    RegionSet behind = intent_.dirty();
    if (everything) behind.set_all();
    activate(*member, std::move(behind));
  };
  if (!stripes_) {
    begin();
    co_return status;
  }
  // What its ring has from before does not count: its superblock names the life of now.
  BB_CO_TRY(co_await write_member_superblock(member, record_.version));
  Status admitted = co_await stripes_->admit(member->slot, begin);
  co_return status.ok() ? admitted : status;
}

io::Task<Status> ArrayCore::fail_member(Uuid uuid, std::string reason) {
  Entered entered(commands_);
  if (!entered.inside) co_return closed_error();
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  co_return co_await change(
      [this, uuid, reason](MembershipRecord& next) {
        const MemberRecord* member = next.find(uuid);
        if (member == nullptr) {
          return fail(Code::k_not_found, "no member {}", uuid.to_string());
        }
        if (member->state == MemberState::kFailed || member->state == MemberState::kRemoved) {
          return fail(Code::k_bad_state, "member {} is {} already", member->label,
                      member_state_name(member->state));
        }
        BB_TRY(needed(next, *member));
        next.reason = fmt::format("member {} {} failed: {}", member->slot, member->label, reason);
        set_member_state(next, uuid, MemberState::kFailed);
        find_member(uuid)->may_return = false;
        return Status();
      },
      deadline_ns);
}

io::Task<Status> ArrayCore::remove_member(Uuid uuid) {
  Entered entered(commands_);
  if (!entered.inside) co_return closed_error();
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  co_return co_await change(
      [this, uuid](MembershipRecord& next) {
        const MemberRecord* member = next.find(uuid);
        if (member == nullptr || member->state == MemberState::kRemoved) {
          return fail(Code::k_not_found, "no member {}", uuid.to_string());
        }
        BB_TRY(needed(next, *member));
        next.reason = fmt::format("member {} {} removed", member->slot, member->label);
        set_member_state(next, uuid, MemberState::kRemoved);
        return Status();
      },
      deadline_ns);
}

// Gives a member that is out of use another device; the old one is closed if we own it.
io::Task<Status> ArrayCore::take_device(Member* member, MemberDevice device) {
  std::vector<MemberDevice> closing;
  closing.emplace_back();
  if (member->active || member->in_flight > 0) {
    closing[0] = std::move(device);
    co_await close_members(std::move(closing));
    co_return fail(Code::k_bad_state, "{} is in use", name_of(*member));
  }
  if (member->watcher.watching) member->device->unwatch(member->watcher);
  member->watcher.watching = false;
  closing[0].owned = std::move(member->owned);
  member->device = nullptr;
  attach(*member, std::move(device));
  co_await close_members(std::move(closing));
  co_return Status();
}

// Room and blocks as the record wants them.
Status ArrayCore::check_fits(const io::Device& device, const std::string& label) const {
  const io::DeviceInfo& info = device.info();
  uint64_t room = data_room_bytes(info.size_bytes);
  uint64_t needed_bytes = geometry_.extent_bytes();
  if (room >= needed_bytes && info.block_size_bytes == record_.block_size_bytes) return {};
  return fail(Code::k_no_space, "{} has room for {} bytes in blocks of {}, not {} in {}", label,
              room, info.block_size_bytes, needed_bytes, record_.block_size_bytes);
}

// The device is there and is the member; `own` gets what its bitmap knows.
io::Task<Status> ArrayCore::check_returning(Member* member, RegionSet* own) {
  bool comes_back = member->state == MemberState::kFailed ||
                    (member->state == MemberState::kRecovering && !member->active);
  if (!comes_back) {
    co_return fail(Code::k_bad_state, "{} is {}, so it cannot be readmitted", name_of(*member),
                   member_state_name(member->state));
  }
  if (member->device == nullptr || member->device->state() != io::DeviceState::kReady) {
    co_return fail(Code::k_unavailable, "{}: its device is not there", name_of(*member));
  }
  BB_CO_TRY(check_fits(*member->device, name_of(*member)));
  Result<Superblock> found = co_await read_superblock(member->device);
  if (!found.ok()) co_return found.status().with_context(name_of(*member));
  if (found->array != record_.array || found->member != member->uuid) {
    co_return fail(Code::k_already_exists, "{} carries member {} of array {}, not member {}",
                   name_of(*member), found->member.to_string(), found->array.to_string(),
                   member->uuid.to_string());
  }
  member->superblock_generation = found->generation;
  co_await add_own_bitmap(member->device, record_.array, static_cast<uint32_t>(geometry_.pages()),
                          own);
  co_return Status();
}

io::Task<Status> ArrayCore::readmit_member(Uuid uuid, MemberDevice device) {
  Entered entered(commands_);
  if (!entered.inside) {
    co_await close_member(std::move(device));
    co_return closed_error();
  }
  io::Mutex::Held alone = co_await command_mutex_.scoped();
  Hold hold(clean_hold_);
  Member* member = find_member(uuid);
  if (member == nullptr || !member->listed) {
    co_await close_member(std::move(device));
    co_return fail(Code::k_not_found, "no member {}", uuid.to_string());
  }
  if (device.device != nullptr) BB_CO_TRY(co_await take_device(member, std::move(device)));
  RegionSet own(geometry_.regions());
  BB_CO_TRY(co_await check_returning(member, &own));
  BB_CO_TRY(co_await change(
      [this, uuid](MembershipRecord& next) {
        const MemberRecord* now = next.find(uuid);
        bool back = now != nullptr &&
                    (now->state == MemberState::kFailed || now->state == MemberState::kRecovering);
        if (!back) return fail(Code::k_bad_state, "member {} was changed", uuid.to_string());
        next.reason = fmt::format("member {} {} readmitted", now->slot, now->label);
        set_member_state(next, uuid, MemberState::kRecovering);
        return Status();
      },
      loop_.now_ns() + options_.commit_wait_ns));
  if (member->state != MemberState::kRecovering) {
    co_return fail(Code::k_bad_state, "{} was changed meanwhile", name_of(*member));
  }
  intent_.mark(own);
  BB_CO_TRY(co_await take_in(member, false));
  co_return co_await persist_all();
}

// May `device` take the place of `old`?
io::Task<Status> ArrayCore::check_fresh(Uuid old, io::Device* device, std::string label,
                                        bool force) {
  BB_CO_TRY(check_replaceable(record_, old));
  if (members_.size() >= kMembersEver) {
    co_return fail(Code::k_bad_state, "{} replacements: close and assemble the array first",
                   kMembersEver);
  }
  BB_CO_TRY(check_fits(*device, label));
  for (const auto& member : members_) {
    if (member->device == device && member->listed && member->state != MemberState::kRemoved) {
      co_return fail(Code::k_already_exists, "{} is {} already", label, name_of(*member));
    }
  }
  if (force) co_return Status();
  Result<Superblock> found = co_await read_superblock(device);
  if (found.ok()) {
    co_return fail(Code::k_already_exists, "{} carries member {} of array \"{}\" ({})", label,
                   found->member.to_string(), found->name, found->array.to_string());
  }
  bool blank = found.code() == Code::k_not_found || found.code() == Code::k_corrupt;
  co_return blank ? Status() : found.status();
}

// Old out, new in, in one committed step.
io::Task<Status> ArrayCore::commit_replacement(Uuid old, MemberRecord entry) {
  co_return co_await change(
      [this, old, entry](MembershipRecord& next) {
        BB_TRY(check_replaceable(next, old));
        const MemberRecord* was = next.find(old);
        BB_TRY(needed(next, *was));
        next.reason =
            fmt::format("member {} {} replaced by {}", was->slot, was->label, entry.label);
        MemberRecord added = entry;
        added.slot = was->slot;
        set_member_state(next, old, MemberState::kRemoved);
        make_room_for_member(next);
        added.generation = next.version;
        next.members.push_back(added);
        return Status();
      },
      loop_.now_ns() + options_.commit_wait_ns);
}

io::Task<Status> ArrayCore::replace_member(Uuid old, MemberDevice fresh, bool force) {
  Entered entered(commands_);
  if (!entered.inside) {
    co_await close_member(std::move(fresh));
    co_return closed_error();
  }
  io::Mutex::Held alone = co_await command_mutex_.scoped();
  Hold hold(clean_hold_);
  io::Device* device = fresh.device;
  std::string label = fresh.label.empty() ? device->info().uri : fresh.label;
  if (label.size() > kLabelMaxBytes) label.resize(kLabelMaxBytes);
  MemberRecord entry{
      .uuid = Uuid::random(loop_.prng()), .state = MemberState::kRecovering, .label = label};
  Status status = co_await check_fresh(old, device, label, force);
  bool touched = status.ok();
  if (status.ok()) entry.slot = find_member(old)->slot;
  if (status.ok()) {
    status = co_await write_blank_bitmap(device, record_.array, geometry_, true);
  }
  if (status.ok()) status = co_await write_blank_checksums(device, geometry_);
  if (status.ok()) {
    status = co_await write_superblock(device, superblock_of(entry));
  }
  // Everything is to be copied: every bit is durable before the record speaks of the new member,
  // and the hold keeps it so until the commit has happened or cannot.
  if (status.ok()) {
    intent_.mark_all();
    status = co_await persist_all();
  }
  if (status.ok()) status = co_await commit_replacement(old, entry);
  Member* member = find_member(entry.uuid);  // adopt() made it
  if (!status.ok() || member == nullptr || member->state != MemberState::kRecovering) {
    // Unknown outcome (too late, closing, fenced by who may have read our commit): the record may
    // name it, so it keeps its superblock.
    if (touched && member == nullptr && !record_unknown_) {
      (void)co_await wipe_superblock(device);
    }
    co_await close_member(std::move(fresh));
    co_return status.ok() ? fail(Code::k_bad_state, "the new member was changed at once") : status;
  }
  attach(*member, std::move(fresh));
  member->superblock_generation = 1;
  intent_.mark_all();
  BB_CO_TRY(co_await take_in(member, true));
  co_return co_await persist_all();
}

io::Task<Status> ArrayCore::write_member_superblock(Member* member, uint64_t version) {
  io::Mutex::Held held = co_await superblock_mutex_.scoped();
  MemberRecord committed;
  if (const MemberRecord* found = record_.find(member->uuid)) committed = *found;
  Superblock block = superblock_of(committed);
  block.version = version;
  block.generation = ++member->superblock_generation;
  co_return co_await write_superblock(member->device, std::move(block));
}

// Recovering -> in-sync: everything was copied; make it durable, then commit.
io::Task<Status> ArrayCore::promote(Member* member) {
  uint64_t covered = intent_.epoch();  // flushes that began later reach the member themselves
  if (stripes_ && checked()) BB_CO_TRY(co_await write_sums(0));
  if (!BB_MUTANT(kSkipRecoveryFlush)) {
    Status flushed = stripes_ ? co_await stripes_->flush() : co_await member->device->flush();
    if (stripes_ && !flushed.ok()) co_return flushed;
    if (!flushed.ok()) {
      suspect(*member, flushed.to_string());
      co_return flushed;
    }
  }
  // The superblock is older evidence than the state it accompanies, or the member would look stale.
  uint64_t version = record_.version + 1;
  Status written = co_await write_member_superblock(member, version);
  if (!written.ok()) {
    suspect(*member, written.to_string());
    co_return written;
  }
  if (member->lost() && !BB_MUTANT(kIgnoreIncarnation)) {
    suspect(*member, "the connection was lost");
    co_return error(Code::k_unavailable, "the connection was lost");
  }
  auto complete = [member] {
    return member->writable() && member->behind.empty() && member->listed &&
           member->state == MemberState::kRecovering;
  };
  if (!complete()) co_return error(Code::k_busy, "there is more to copy");
  Status status = co_await change(
      [this, member, version, covered, complete](MembershipRecord& next) {
        if (!complete() || next.version != version || !holds_all()) {
          return fail(Code::k_busy, "something changed");
        }
        // From here on nothing is acknowledged without it: the commit may happen at any time. Not
        // before: while another change is awaited, that one may take the member away.
        member->promoting = true;
        member->covered_epoch = covered;
        next.reason = fmt::format("{} recovered", name_of(*member));
        set_member_state(next, member->uuid, MemberState::kInSync);
        return Status();
      },
      UINT64_MAX);
  // Closing or fenced with the outcome unknown: it still counts, to the end.
  member->promoting = !status.ok() && record_unknown_;
  changed();
  co_return status;
}

// Takes failed members back when their devices are there again and have stayed for a while.
io::Task<void> ArrayCore::readmit_loop() {
  while (!stop_background_) {
    readmit_work_.reset();
    uint64_t now_ns = loop_.now_ns();
    uint64_t next_ns = UINT64_MAX;
    for (size_t i = 0; i < members_.size() && fenced_.empty() && !closing_; ++i) {
      Member* member = members_[i].get();
      bool away =
          member->listed && member->device != nullptr && !member->active &&
          (member->state == MemberState::kFailed || member->state == MemberState::kRecovering) &&
          member->device->state() == io::DeviceState::kReady;
      if (!away || !holds_all()) continue;
      uint64_t due_ns = member->ready_since_ns + options_.readmit_delay_ns;
      if (due_ns <= now_ns) {
        Status status = co_await readmit_member(member->uuid, {});
        if (!status.ok()) {
          log_warn("array \"{}\": {}: {} -> tried again later", record_.name, name_of(*member),
                   status.to_string());
        }
        member->ready_since_ns = loop_.now_ns();
        due_ns = member->ready_since_ns + options_.readmit_delay_ns;
      }
      next_ns = std::min(next_ns, due_ns);
    }
    if (stop_background_) break;
    if (next_ns == UINT64_MAX) {
      co_await readmit_work_.wait();
    } else {
      (void)co_await readmit_work_.wait_until(std::max(next_ns, loop_.now_ns() + kNsPerMs));
    }
  }
}

}  // namespace bb::raid
