// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "io/sync.h"
#include "raid/membership_authority.h"

namespace bb::sim {

// The membership record of one array, with one owner. Held, a commit is decided and then answered
// when whoever explores says so; else at once. Answers that never come are ModelAuthority's.
class TinyAuthority final : public raid::MembershipAuthority {
 public:
  TinyAuthority(io::Loop& loop, std::optional<raid::MembershipRecord> record)
      : record_(std::move(record)), step_(loop) {}

  void hold() { held_ = true; }
  bool asked() const { return state_ == State::kAsked; }
  bool decided() const { return state_ == State::kDecided; }
  void decide();  // it is stored, or refused
  void answer();
  void cut();  // its user crashed: nothing is stored any more

  const std::optional<raid::MembershipRecord>& record() const { return record_; }
  // An array proposed what no array may.
  const std::string& unlawful() const { return unlawful_; }

  io::Task<Result<raid::MembershipRecord>> load(Uuid array) override;
  io::Task<Status> create(raid::MembershipRecord record) override;
  io::Task<Status> commit(raid::MembershipRecord record, uint64_t expected_version) override;

 private:
  enum class State : uint8_t { kIdle, kAsked, kDecided };
  Status apply(const raid::MembershipRecord& record, uint64_t expected_version);

  std::optional<raid::MembershipRecord> record_;
  io::Event step_;
  raid::MembershipRecord asked_;
  uint64_t asked_version_ = 0;
  Status outcome_;
  State state_ = State::kIdle;
  bool held_ = false;
  bool cut_ = false;
  std::string unlawful_;
};

}  // namespace bb::sim
