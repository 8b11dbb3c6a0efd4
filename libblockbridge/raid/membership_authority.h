// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "io/task.h"
#include "raid/membership.h"

namespace bb::raid {

// Keeps the membership of arrays where no single failure loses it. The array asks it before it
// acknowledges any write that a member lacks.
class MembershipAuthority {
 public:
  virtual ~MembershipAuthority() = default;

  // The newest committed record (a quorum read). NOT_FOUND: never created. UNAVAILABLE, TIMED_OUT:
  // cannot be known now.
  virtual io::Task<Result<MembershipRecord>> load(Uuid array) = 0;

  // Stores version 1. ALREADY_EXISTS: there is a record of this array, or another of this name.
  virtual io::Task<Status> create(MembershipRecord record) = 0;

  // Replaces version `expected_version` by `record` (whose version is one more). ok only when it is
  // durable. Nothing was stored: FENCED (the stored epoch is newer than the record's), BAD_STATE
  // (the stored version is not the expected one: load and think again), INVALID_ARGUMENT (an
  // unlawful transition), NOT_FOUND. UNAVAILABLE, TIMED_OUT and anything else: the outcome is
  // unknown, and the record may yet appear; the caller loads to learn, and retries.
  virtual io::Task<Status> commit(MembershipRecord record, uint64_t expected_version) = 0;
};

}  // namespace bb::raid
