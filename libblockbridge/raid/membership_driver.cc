// SPDX-License-Identifier: Apache-2.0
// What is committed, what is suspected, and how the one becomes the other.
#include <algorithm>

#include "raid/array_core.h"

namespace bb::raid {

std::string ArrayCore::name_of(const Member& member) {
  return fmt::format("member {} {}", member.slot, member.label);
}

Member& ArrayCore::add_member(const Uuid& uuid) {
  BB_CHECK(members_.size() < kMembersEver, "more than {} members", kMembersEver);
  auto member = std::make_unique<Member>();
  member->index = static_cast<uint32_t>(members_.size());
  member->uuid = uuid;
  member->behind = RegionSet(geometry_.regions());
  member->watcher.core = this;
  member->watcher.member = member.get();
  members_.push_back(std::move(member));
  return *members_.back();
}

Member* ArrayCore::find_member(const Uuid& uuid) const {
  for (auto& member : members_) {
    if (member->uuid == uuid) return member.get();
  }
  return nullptr;
}

// Takes over what was committed.
void ArrayCore::adopt(MembershipRecord record) {
  record_ = std::move(record);
  for (auto& member : members_) member->listed = false;
  for (const MemberRecord& committed : record_.members) {
    Member* member = find_member(committed.uuid);
    if (member == nullptr) {
      if (members_.size() == kMembersEver) continue;
      member = &add_member(committed.uuid);
    }
    member->listed = true;
    member->state = committed.state;
    member->generation = committed.generation;
    member->slot = committed.slot;
    member->label = committed.label;
    if (committed.state == MemberState::kFailed || committed.state == MemberState::kRemoved) {
      member->active = false;
      member->suspect = false;
      member->behind.clear_all();
    }
    if (committed.state == MemberState::kInSync && !member->active) member->suspect = true;
  }
  for (auto& member : members_) {
    if (!member->listed) member->active = false;
  }
  for (auto& slot : holders_) slot.clear();
  for (auto& member : members_) {
    if (!member->listed || member->state == MemberState::kRemoved) continue;
    holders_[member->slot].push_back(member.get());
  }
  uint64_t in_sync = record_.slots_in(MemberState::kInSync);
  complete_ = in_sync == geometry_.shape.all_slots();
  if (!geometry_.shape.shared_within(in_sync) && !checked()) {
    bool promoting = std::ranges::any_of(members_, [](auto& m) { return m->promoting; });
    if (!promoting) {  // a single copy cannot differ from itself
      unequal_.clear_all();
      copied_.clear_all();
      flushing_.clear_all();
    }
  }
  if (record_.any_missing() && degraded_since_wall_ns_ == 0) {
    degraded_since_wall_ns_ = loop_.wall_ns();
  }
  if (!record_.any_missing()) degraded_since_wall_ns_ = 0;
  changed();
  membership_work_.set();
  resync_work_.set();
  readmit_work_.set();
  bitmap_work_.set();
}

void ArrayCore::fence(std::string why) {
  if (!fenced_.empty()) return;
  fenced_ = std::move(why);
  log_error("array \"{}\": {} -> this instance stops", record_.name, fenced_);
  changed();
  bitmap_done_.set();
  bitmap_done_.reset();
}

Status ArrayCore::usable() const {
  if (!fenced_.empty()) return fail(Code::k_fenced, "{}", fenced_);
  if (closing_) return fail(Code::k_cancelled, "the array is being closed");
  return {};
}

bool ArrayCore::holds_all(const Member* without) const {
  uint64_t slots = 0;
  for (const auto& member : members_) {
    if (member.get() != without && member->readable()) slots |= member->slot_bit();
  }
  return geometry_.shape.survives(~slots);
}

// Why the array cannot do without a member.
Status ArrayCore::needed(const MembershipRecord& record, const MemberRecord& member) const {
  if (holds_all(find_member(member.uuid))) return {};
  bool last = std::ranges::none_of(members_, [&member](const auto& other) {
    return other->readable() && other->uuid != member.uuid;
  });
  if (last) {
    return fail(Code::k_bad_state, "member {} is the last in-sync member of {}", member.label,
                record.slots);
  }
  return fail(Code::k_bad_state,
              "member {} is needed: the other in-sync members of this RAID {} do not hold "
              "everything",
              member.label, geometry_.shape.level->name);
}

// Enough members are usable, or may be once the authority has answered: it was perhaps promoted.
bool ArrayCore::may_serve() const {
  uint64_t slots = 0;
  for (const auto& member : members_) {
    bool perhaps = record_unknown_ && member->promoting && member->writable() && member->listed;
    if (member->readable() || perhaps) slots |= member->slot_bit();
  }
  return geometry_.shape.survives(~slots);
}

void ArrayCore::suspect(Member& member, std::string why) {
  if (!member.active || member.suspect) return;
  member.suspect = true;
  member.detail = std::move(why);
  member.may_return = member.device->state() != io::DeviceState::kReady || member.lost();
  member.ready_since_ns = loop_.now_ns();
  ++member.errors;
  log_warn("array \"{}\": {}: {} -> not used until that is committed", record_.name,
           name_of(member), member.detail);
  changed();
  membership_work_.set();
}

// Every answer of a member passes here: a connection that was lost meanwhile took completed,
// unflushed writes with it, even if it is back already.
void ArrayCore::check_leg(FanOut::Leg& leg) {
  Member& member = *leg.member;
  if (!leg.status.ok()) ++member.errors;
  if (member.lost() && !BB_MUTANT(kIgnoreIncarnation)) {
    if (leg.status.ok()) {
      leg.status = error(Code::k_unavailable, "the connection was lost, unflushed writes with it");
    }
    suspect(member, leg.status.to_string());
  } else if (!leg.status.ok() && leg.status.code() == Code::k_unavailable) {
    suspect(member, leg.status.to_string());
    member.may_return = true;
  }
}

void Member::Watcher::on_device_state(io::Device&, io::DeviceState state) {
  core->on_device_state(*member, state);
}

void ArrayCore::on_device_state(Member& member, io::DeviceState state) {
  if (closed_) return;
  if (state == io::DeviceState::kReady) {
    member.ready_since_ns = loop_.now_ns();
    if (member.lost() && !BB_MUTANT(kIgnoreIncarnation)) suspect(member, "the connection was lost");
  } else if (!BB_MUTANT(kIgnoreIncarnation)) {
    suspect(member, "the device is not available");
  }
  membership_work_.set();
  readmit_work_.set();
}

// True when each member that counts, of these slots, is in the mask. Else `lacking` names one that
// is not and that nobody is going to remove, or stays null while a commit is awaited. A `flush`
// also counts for who became in-sync while it was under way: all that it had to make durable was
// copied there, and made durable before the promotion.
bool ArrayCore::settled(const MemberMask& ok_mask, uint64_t slots, Member** lacking,
                        uint64_t flush) const {
  bool all = true;
  for (const auto& member : members_) {
    if (!member->required() || ok_mask.test(member->index)) continue;
    if ((slots & member->slot_bit()) == 0) continue;
    if (flush != 0 && !member->suspect && member->covered_epoch >= flush) continue;
    all = false;
    if (!member->suspect) *lacking = member.get();
  }
  return all;
}

// Rule 3: waits until whoever lacks the write is gone by a committed change.
io::Task<Status> ArrayCore::settle(MemberMask ok_mask, uint64_t slots, uint64_t flush) {
  uint64_t deadline_ns = loop_.now_ns() + options_.commit_wait_ns;
  for (;;) {
    if (!fenced_.empty()) co_return usable();
    Member* lacking = nullptr;
    if (settled(ok_mask, slots, &lacking, flush)) co_return Status();
    if (BB_MUTANT(kAckBeforeCommit)) co_return Status();
    BB_CO_TRY(usable());
    if (lacking != nullptr) {
      co_return fail(Code::k_io_error, "{} does not have it", name_of(*lacking));
    }
    if (!may_serve()) {
      co_return fail(Code::k_unavailable, "no in-sync member is usable (recover)");
    }
    membership_work_.set();
    if (!co_await changed_.wait_until(deadline_ns)) {
      co_return fail(Code::k_unavailable,
                     "a member failed, and its removal was not committed within {} ms",
                     options_.commit_wait_ns / kNsPerMs);
    }
  }
}

// Learns the newest record. `moved`: the version is another than ours was, so that no commit of
// ours that is still on its way can be stored any more.
io::Task<Status> ArrayCore::reload(bool* moved) {
  Result<MembershipRecord> loaded = co_await authority_->load(record_.array);
  *moved = false;
  if (!loaded.ok()) co_return loaded.status();
  if (loaded->epoch > options_.epoch) {
    fence(fmt::format("epoch {} of this owner is older than {}", options_.epoch, loaded->epoch));
    co_return usable();
  }
  if (loaded->version <= record_.version) co_return Status();
  *moved = true;
  adopt(std::move(loaded).value());
  co_return Status();
}

// Commits one change. Comes back with a certain answer; TIMED_OUT only when the deadline passed
// while the outcome was unknown (record_unknown_ then stays set and the membership loop finds out).
io::Task<Status> ArrayCore::change(Edit edit, uint64_t deadline_ns) {
  io::Mutex::Held held = co_await membership_mutex_.scoped();
  bool unknown = record_unknown_;
  MembershipRecord attempt;
  for (;;) {
    BB_CO_TRY(usable());
    MembershipRecord next = record_;
    ++next.version;
    next.epoch = options_.epoch;
    Status wanted = edit(next);
    if (!wanted.ok()) {
      if (!unknown) co_return wanted;
      // An earlier attempt may yet be stored: take its place, so that it cannot.
      next = record_;
      ++next.version;
      next.epoch = options_.epoch;
      next.reason = "the outcome of an earlier change was made certain";
    }
    if (next.reason.size() > kReasonMaxBytes) next.reason.resize(kReasonMaxBytes);
    BB_CO_TRY(validate_transition(record_, next));
    attempt = next;
    record_unknown_ = true;
    Status status = co_await authority_->commit(next, record_.version);
    if (status.code() == Code::k_fenced && BB_MUTANT(kIgnoreFenced)) status = Status();
    if (status.ok()) {
      record_unknown_ = false;
      log_info("array \"{}\": version {} is committed: {}", record_.name, attempt.version,
               attempt.reason);
      adopt(attempt);
      co_return wanted;
    }
    if (status.code() == Code::k_fenced) {
      fence(status.text());
      co_return status;
    }
    if (status.code() == Code::k_invalid_argument || status.code() == Code::k_not_found) {
      if (!unknown) record_unknown_ = false;
      co_return status;
    }
    unknown = true;
    bool moved = false;
    Status loaded = co_await reload(&moved);
    BB_CO_TRY(usable());
    if (loaded.ok() && moved) {
      unknown = record_unknown_ = false;
      if (record_ == attempt) co_return wanted;
      continue;
    }
    if (loaded.ok() && status.code() == Code::k_bad_state) {
      // Refused, though the version has not moved: an older reader answered. Ask again.
      log_debug("array \"{}\": {} -> trying again", record_.name, status.to_string());
    }
    uint64_t now_ns = loop_.now_ns();
    if (now_ns >= deadline_ns) {
      membership_work_.set();
      co_return fail(Code::k_timed_out, "the membership could not be committed: {}",
                     status.to_string());
    }
    co_await stop_.wait_until(std::min(deadline_ns, now_ns + options_.commit_retry_ns));
  }
}

// So many members failed us that the others do not hold everything. Those that are there and lost
// nothing go on, as many as are needed; the others are then removed. One that lost unflushed writes
// may not: the array stays in `recover`. While it is not known whether somebody was promoted, all
// wait for that: who failed a write that the other has would be taken back, and the write lost.
std::vector<Member*> ArrayCore::keepers() {
  if (may_serve()) return {};
  uint64_t slots = 0;
  for (const auto& member : members_) slots |= member->readable() ? member->slot_bit() : 0;
  std::vector<Member*> found;
  for (auto& member : members_) {
    if (geometry_.shape.survives(~slots)) break;
    if (!member->suspect || !member->active || !member->listed) continue;
    if (member->state != MemberState::kInSync) continue;
    if (member->device == nullptr || member->device->state() != io::DeviceState::kReady) continue;
    if (member->lost() && member->unflushed()) {
      member->detail =
          "the connection was lost and unflushed writes may be gone, with no other in-sync "
          "member to take them from";
      continue;
    }
    found.push_back(member.get());
    slots |= member->slot_bit();
  }
  if (!geometry_.shape.survives(~slots)) found.clear();
  return found;
}

// Enough members are there, or would be once some are taken back.
bool ArrayCore::may_resume() { return may_serve() || !keepers().empty(); }

bool ArrayCore::resume_keepers() {
  std::vector<Member*> back = keepers();
  for (Member* member : back) {
    member->incarnation = member->device->incarnation();
    member->suspect = false;
    log_warn("array \"{}\": {} is back -> goes on with it", record_.name, name_of(*member));
  }
  if (back.empty()) return false;
  changed();
  bitmap_work_.set();
  return true;
}

bool ArrayCore::commit_wanted() const {
  if (record_unknown_) return true;
  if (!holds_all()) return false;
  return std::ranges::any_of(members_, [](const auto& m) {
    return m->listed && m->suspect &&
           (m->state == MemberState::kInSync || m->state == MemberState::kRecovering);
  });
}

io::Task<void> ArrayCore::membership_loop() {
  while (!stop_background_) {
    membership_work_.reset();
    if (stripes_) {
      stripes_->wake();  // it takes them back where no I/O sees it
    } else {
      resume_keepers();
    }
    if (!fenced_.empty() || closing_ || !commit_wanted()) {
      co_await membership_work_.wait();
      continue;
    }
    Status status = co_await change(
        [this](MembershipRecord& next) {
          next.reason.clear();
          for (const auto& member : members_) {
            const MemberRecord* committed = next.find(member->uuid);
            if (committed == nullptr || !member->suspect) continue;
            if (committed->state != MemberState::kInSync &&
                committed->state != MemberState::kRecovering) {
              continue;
            }
            if (!holds_all()) return fail(Code::k_unavailable, "no in-sync member is usable");
            set_member_state(next, member->uuid, MemberState::kFailed);
            next.reason += fmt::format("{}{} failed: {}", next.reason.empty() ? "" : "; ",
                                       name_of(*member), member->detail);
          }
          if (next.reason.empty()) return fail(Code::k_bad_state, "nothing to commit");
          return Status();
        },
        UINT64_MAX);
    if (!status.ok() && !stop_background_) {
      co_await stop_.wait_until(loop_.now_ns() + options_.commit_retry_ns);
    }
  }
}

}  // namespace bb::raid
