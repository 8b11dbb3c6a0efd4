// SPDX-License-Identifier: Apache-2.0
#include "raid/membership.h"

#include <algorithm>

#include "base/units.h"

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
  if (record.level != 1) return unlawful(record, "level {} is not known", record.level);
  if (record.block_size_bytes != 512 && record.block_size_bytes != 4096) {
    return unlawful(record, "block size {} is neither 512 nor 4096", record.block_size_bytes);
  }
  if (!is_power_of_two(record.region_size_bytes) || record.region_size_bytes < 64 * KiB) {
    return unlawful(record, "region size {} is no power of two from 65536 up",
                    record.region_size_bytes);
  }
  if (record.size_bytes == 0 || record.size_bytes % record.block_size_bytes != 0 ||
      record.size_bytes > UINT64_MAX - record.data_offset_bytes) {
    return unlawful(record, "size {} at data offset {}", record.size_bytes,
                    record.data_offset_bytes);
  }
  if (record.members.size() > kMembersListedMax) {
    return unlawful(record, "{} members (max {})", record.members.size(), kMembersListedMax);
  }
  uint64_t active = record.members.size() - record.count(MemberState::kRemoved);
  if (active > kMembersActiveMax) {
    return unlawful(record, "{} copies (max {})", active, kMembersActiveMax);
  }
  if (record.count(MemberState::kInSync) == 0) return unlawful(record, "no member is in-sync");
  if (record.reason.size() > kReasonMaxBytes) {
    return unlawful(record, "a reason of {} bytes (max {})", record.reason.size(), kReasonMaxBytes);
  }
  for (size_t i = 0; i < record.members.size(); ++i) {
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
  }
  return {};
}

Status validate_transition(const MembershipRecord& before, const MembershipRecord& after) {
  BB_TRY(validate_record(after));
  if (after.array != before.array || after.name != before.name || after.level != before.level ||
      after.size_bytes != before.size_bytes ||
      after.data_offset_bytes != before.data_offset_bytes ||
      after.block_size_bytes != before.block_size_bytes ||
      after.region_size_bytes != before.region_size_bytes) {
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
  bool one_stays = false;
  for (const MemberRecord& is : after.members) {
    const MemberRecord* was = before.find(is.uuid);
    if (was == nullptr &&
        (is.state != MemberState::kRecovering || is.generation != after.version)) {
      return unlawful(after, "new member {} must begin as recovering", is.uuid.to_string());
    }
    one_stays |=
        was != nullptr && was->state == MemberState::kInSync && is.state == MemberState::kInSync;
  }
  // A member that turns in-sync in the same step does not replace the last one that was.
  if (!one_stays) return unlawful(after, "the last in-sync member cannot be removed");
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
