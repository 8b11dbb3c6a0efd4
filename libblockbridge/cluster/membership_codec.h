// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include "base/json.h"
#include "raid/membership.h"

namespace bb::cluster {

inline constexpr size_t kMembershipBytesMax = 64 * 1024;

// One step in the life of an array, for `mdvote history`.
struct MembershipChange {
  raid::MembershipRecord record;
  uint64_t wall_ns = 0;  // when the committing node's clock said so; 0 in the present record
};

Json membership_to_json(const raid::MembershipRecord& record);
std::string encode_membership(const raid::MembershipRecord& record, uint64_t wall_ns = 0);
// CORRUPT with the field that is wrong. What it gives is valid by raid::validate_record.
Result<MembershipChange> decode_membership(std::string_view text);

}  // namespace bb::cluster
