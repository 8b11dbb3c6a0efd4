// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/uuid.h"
#include "raid/geometry.h"

namespace bb::raid {

inline constexpr uint32_t kMembersListedMax = 96;  // with those removed, in record and superblock
inline constexpr size_t kNameMaxBytes = 64;
inline constexpr size_t kLabelMaxBytes = 200;
inline constexpr size_t kReasonMaxBytes = 300;

enum class MemberState : uint8_t {
  kInSync = 1,      // has every acknowledged write
  kRecovering = 2,  // gets all new writes and is being copied onto; never read
  kFailed = 3,      // away; what it misses is marked in the bitmap, so it may come back cheaply
  kRemoved = 4,     // for good; nothing is remembered for it (its drive is stale)
};
std::string_view member_state_name(MemberState state);  // "in-sync"
std::optional<MemberState> member_state_from_name(std::string_view name);

struct MemberRecord {
  Uuid uuid;
  MemberState state = MemberState::kInSync;
  uint64_t generation = 1;  // the version of the record since which the state holds
  uint32_t slot = 0;
  std::string label;  // the drive in words, for people: "node-a/0", a URI without secrets

  bool operator==(const MemberRecord&) const = default;
};

// Who holds the truth of an array: the committed word, of which every drive is only evidence.
struct MembershipRecord {
  Uuid array;
  std::string name;
  uint64_t version = 1;  // rises by one with every commit
  uint64_t epoch = 1;    // of the owner that committed it; never falls
  RaidLevel level = RaidLevel::k1;
  uint32_t slots = 0;  // members that the shape has: 0 .. slots - 1
  uint32_t copies = 0;
  uint64_t chunk_bytes = 0;
  uint64_t size_bytes = 0;    // of the array
  uint64_t member_bytes = 0;  // of data on each member
  uint64_t data_offset_bytes = 0;
  uint32_t block_size_bytes = 512;
  uint64_t region_size_bytes = 0;
  Integrity integrity = Integrity::kNone;
  std::vector<MemberRecord> members;
  std::string reason;  // what changed last, and why

  const MemberRecord* find(const Uuid& member) const;
  MemberRecord* find(const Uuid& member);
  uint32_t count(MemberState state) const;
  uint64_t slots_in(MemberState state) const;  // a bit each
  Shape shape() const;                         // of a valid record
  Geometry geometry() const;                   // of a valid record
  // Somebody is away or incomplete, so that dirty bits must be kept for them.
  bool any_missing() const { return count(MemberState::kFailed) + count(MemberState::kRecovering); }

  bool operator==(const MembershipRecord&) const = default;
};

// The rules of the record. An authority applies them too before it stores anything.
Status validate_record(const MembershipRecord& record);
// `before` -> `after` is one lawful step: version + 1, epoch not falling, facts unchanged,
// recovering only from failed, recovering or new, in-sync only from in-sync or recovering, removed
// is final, generations changed with the states and only then, and the members that are in-sync in
// both hold everything.
Status validate_transition(const MembershipRecord& before, const MembershipRecord& after);

// Gives `member` its new state in a record that is becoming version `record.version`.
void set_member_state(MembershipRecord& record, const Uuid& member, MemberState state);
// Drops the longest removed members so that one more fits.
void make_room_for_member(MembershipRecord& record);

}  // namespace bb::raid
