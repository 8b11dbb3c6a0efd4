// SPDX-License-Identifier: Apache-2.0
#include "raid/membership.h"

#include <algorithm>

#include "base/units.h"
#include "raid/stripe_layout.h"

namespace bb::raid {
namespace {

struct StateName {
  MemberState state;
  std::string_view name;
};
constexpr StateName kStateNames[] = {
    {MemberState::kInSync, "in-sync"},
    {MemberState::kRecovering, "recovering"},
    {MemberState::kFailed, "failed"},
    {MemberState::kRemoved, "removed"},
};

template <typename... Args>
Status unlawful(const MembershipRecord& record, fmt::format_string<Args...> format,
                Args&&... args) {
  return error(Code::k_invalid_argument, "membership of array \"{}\" version {}: {}", record.name,
               record.version, fmt::format(format, std::forward<Args>(args)...));
}

bool lawful_step(MemberState before, MemberState after) {
  switch (after) {
    case MemberState::kInSync:
      return before == MemberState::kInSync || before == MemberState::kRecovering;
    case MemberState::kRecovering:
      return before == MemberState::kRecovering || before == MemberState::kFailed;
    case MemberState::kFailed:
      return before != MemberState::kRemoved;
    case MemberState::kRemoved:
      return true;
  }
  return false;
}

Status validate_member_step(const MembershipRecord& after, const MemberRecord& was,
                            const MemberRecord& is) {
  if (!lawful_step(was.state, is.state)) {
    return unlawful(after, "member {} cannot go from {} to {}", is.uuid.to_string(),
                    member_state_name(was.state), member_state_name(is.state));
  }
  bool changed = is.generation == after.version;
  bool same = is.generation == was.generation && is.state == was.state;
  if (!changed && !same) {
    return unlawful(after, "member {} is {} since {}, but was {} since {}", is.uuid.to_string(),
                    member_state_name(is.state), is.generation, member_state_name(was.state),
                    was.generation);
  }
  if (was.slot != is.slot) {
    return unlawful(after, "member {} moved from slot {} to {}", is.uuid.to_string(), was.slot,
                    is.slot);
  }
  return {};
}

Status validate_sizes(const MembershipRecord& record) {
  Result<Shape> shape = make_shape(record.level, record.slots, record.copies, record.chunk_bytes);
  if (!shape.ok()) return unlawful(record, "{}", shape.status().text());
  if (shape->copies != record.copies || shape->chunk_bytes != record.chunk_bytes) {
    return unlawful(record, "{} copies in chunks of {} bytes, and RAID {} of {} has {} in {}",
                    record.copies, record.chunk_bytes, shape->level->name, record.slots,
                    shape->copies, shape->chunk_bytes);
  }
  if (record.block_size_bytes != 512 && record.block_size_bytes != 4096) {
    return unlawful(record, "block size {} is neither 512 nor 4096", record.block_size_bytes);
  }
  uint64_t least = std::max(64 * KiB, record.chunk_bytes);
  if (!is_power_of_two(record.region_size_bytes) || record.region_size_bytes < least) {
    return unlawful(record, "region size {} is no power of two from {} up",
                    record.region_size_bytes, least);
  }
  constexpr uint64_t kMemberBytesMax = uint64_t{1} << 57;  // so that 64 of them can be counted
  uint64_t unit = std::max<uint64_t>(record.block_size_bytes, record.chunk_bytes);
  if (record.integrity != Integrity::kNone) unit = std::max(unit, kCheckedBlockBytes);
  if (record.member_bytes == 0 || record.member_bytes % unit != 0 ||
      record.member_bytes > kMemberBytesMax ||
      record.member_bytes > UINT64_MAX - record.data_offset_bytes) {
    return unlawful(record, "{} bytes on each member at data offset {}", record.member_bytes,
                    record.data_offset_bytes);
  }
  if (shape->level->parity > 0 && record.member_bytes / record.chunk_bytes > kStripesMax) {
    return unlawful(record, "{} stripes (max {})", record.member_bytes / record.chunk_bytes,
                    kStripesMax);
  }
  uint64_t size = shape->capacity_bytes(record.member_bytes);
  if (record.size_bytes != size || size == 0) {
    return unlawful(record, "size {}, but {} bytes on each member of RAID {} make {}",
                    record.size_bytes, record.member_bytes, shape_text(*shape), size);
  }
  return {};
}

Status validate_member(const MembershipRecord& record, size_t i) {
  const MemberRecord& member = record.members[i];
  if (member.uuid.is_nil()) return unlawful(record, "member {} has no uuid", i);
  if (member_state_name(member.state) == "?") {
    return unlawful(record, "member {} has state {}", i, static_cast<int>(member.state));
  }
  if (member.generation == 0 || member.generation > record.version) {
    return unlawful(record, "member {} has generation {}", i, member.generation);
  }
  if (member.label.size() > kLabelMaxBytes) {
    return unlawful(record, "member {} has a label of {} bytes (max {})", i, member.label.size(),
                    kLabelMaxBytes);
  }
  if (record.find(member.uuid) != &member) {
    return unlawful(record, "member {} is listed twice", member.uuid.to_string());
  }
  if (member.slot >= record.slots) {
    return unlawful(record, "member {} has slot {}, and there are {}", i, member.slot,
                    record.slots);
  }
  if (member.state == MemberState::kRemoved) return {};
  for (size_t j = 0; j < i; ++j) {
    const MemberRecord& other = record.members[j];
    if (other.slot == member.slot && other.state != MemberState::kRemoved) {
      return unlawful(record, "members {} and {} have slot {}", j, i, member.slot);
    }
  }
  return {};
}

}  // namespace

std::string_view member_state_name(MemberState state) {
  for (const StateName& row : kStateNames) {
    if (row.state == state) return row.name;
  }
  return "?";
}

std::optional<MemberState> member_state_from_name(std::string_view name) {
  for (const StateName& row : kStateNames) {
    if (row.name == name) return row.state;
  }
  return std::nullopt;
}

const MemberRecord* MembershipRecord::find(const Uuid& member) const {
  auto it = std::ranges::find(members, member, &MemberRecord::uuid);
  return it == members.end() ? nullptr : &*it;
}

MemberRecord* MembershipRecord::find(const Uuid& member) {
  auto it = std::ranges::find(members, member, &MemberRecord::uuid);
  return it == members.end() ? nullptr : &*it;
}

uint32_t MembershipRecord::count(MemberState state) const {
  return static_cast<uint32_t>(std::ranges::count(members, state, &MemberRecord::state));
}

uint64_t MembershipRecord::slots_in(MemberState state) const {
  uint64_t mask = 0;
  for (const MemberRecord& member : members) {
    if (member.state == state) mask |= uint64_t{1} << member.slot;
  }
  return mask;
}

Shape MembershipRecord::shape() const {
  Result<Shape> made = make_shape(level, slots, copies, chunk_bytes);
  BB_CHECK(made.ok(), "{}", made.status().to_string());
  return *made;
}

Geometry MembershipRecord::geometry() const {
  return {.shape = shape(),
          .member_bytes = member_bytes,
          .data_offset_bytes = data_offset_bytes,
          .region_size_bytes = region_size_bytes,
          .integrity = integrity};
}

Status validate_record(const MembershipRecord& record) {
  if (record.array.is_nil()) return unlawful(record, "no uuid");
  if (record.name.empty() || record.name.size() > kNameMaxBytes) {
    return unlawful(record, "a name of {} bytes is not 1 to {} long", record.name.size(),
                    kNameMaxBytes);
  }
  // A name becomes part of store keys, NBD export names and URIs.
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (!std::ranges::all_of(record.name, allowed)) {
    return unlawful(record, "a name has only letters, digits, - _ and .");
  }
  if (record.version == 0) return unlawful(record, "versions begin with 1");
  BB_TRY(validate_sizes(record));
  if (record.members.size() > kMembersListedMax) {
    return unlawful(record, "{} members (max {})", record.members.size(), kMembersListedMax);
  }
  if (record.reason.size() > kReasonMaxBytes) {
    return unlawful(record, "a reason of {} bytes (max {})", record.reason.size(), kReasonMaxBytes);
  }
  for (size_t i = 0; i < record.members.size(); ++i) BB_TRY(validate_member(record, i));
  if (record.count(MemberState::kInSync) == 0) return unlawful(record, "no member is in-sync");
  if (!record.shape().survives(~record.slots_in(MemberState::kInSync))) {
    return unlawful(record, "its in-sync members do not hold everything");
  }
  return {};
}

Status validate_transition(const MembershipRecord& before, const MembershipRecord& after) {
  BB_TRY(validate_record(after));
  if (after.array != before.array || after.name != before.name || after.shape() != before.shape() ||
      after.size_bytes != before.size_bytes || after.member_bytes != before.member_bytes ||
      after.data_offset_bytes != before.data_offset_bytes ||
      after.block_size_bytes != before.block_size_bytes ||
      after.region_size_bytes != before.region_size_bytes || after.integrity != before.integrity) {
    return unlawful(after, "uuid, name, level and sizes never change");
  }
  if (after.version != before.version + 1) {
    return unlawful(after, "follows version {}", before.version);
  }
  if (after.epoch < before.epoch) {
    return unlawful(after, "epoch {} follows {}", after.epoch, before.epoch);
  }
  for (const MemberRecord& was : before.members) {
    const MemberRecord* is = after.find(was.uuid);
    if (is == nullptr) {
      if (was.state == MemberState::kRemoved) continue;
      return unlawful(after, "member {} vanished while {}", was.uuid.to_string(),
                      member_state_name(was.state));
    }
    BB_TRY(validate_member_step(after, was, *is));
  }
  uint64_t stay_mask = 0;  // who turns in-sync in the same step replaces nobody who was
  for (const MemberRecord& is : after.members) {
    const MemberRecord* was = before.find(is.uuid);
    if (was == nullptr &&
        (is.state != MemberState::kRecovering || is.generation != after.version)) {
      return unlawful(after, "new member {} must begin as recovering", is.uuid.to_string());
    }
    bool stays =
        was != nullptr && was->state == MemberState::kInSync && is.state == MemberState::kInSync;
    if (stays) stay_mask |= uint64_t{1} << is.slot;
  }
  if (stay_mask == 0) return unlawful(after, "the last in-sync member cannot be removed");
  if (!after.shape().survives(~stay_mask)) {
    return unlawful(after, "the members that stay in-sync do not hold everything");
  }
  return {};
}

void set_member_state(MembershipRecord& record, const Uuid& member, MemberState state) {
  MemberRecord* found = record.find(member);
  BB_CHECK(found != nullptr, "member {} is not in the record", member.to_string());
  if (found->state == state) return;
  found->state = state;
  found->generation = record.version;
}

void make_room_for_member(MembershipRecord& record) {
  while (record.members.size() >= kMembersListedMax) {
    auto oldest = record.members.end();
    for (auto it = record.members.begin(); it != record.members.end(); ++it) {
      if (it->state != MemberState::kRemoved) continue;
      if (oldest == record.members.end() || it->generation < oldest->generation) oldest = it;
    }
    if (oldest == record.members.end()) return;
    record.members.erase(oldest);
  }
}

}  // namespace bb::raid
