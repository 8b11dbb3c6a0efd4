// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_authority.h"

namespace bb::sim {
namespace {

Status no_answer() { return error(Code::k_timed_out, "authority: no answer"); }

}  // namespace

Status TinyAuthority::apply(const raid::MembershipRecord& record, uint64_t expected_version) {
  if (!record_) return error(Code::k_not_found, "no record");
  if (record.epoch < record_->epoch) return error(Code::k_fenced, "an older epoch");
  if (record_->version != expected_version) return error(Code::k_bad_state, "another version");
  Status lawful = raid::validate_transition(*record_, record);
  if (!lawful.ok()) {
    if (unlawful_.empty()) unlawful_ = lawful.to_string();
    return lawful;
  }
  record_ = record;
  return {};
}

void TinyAuthority::decide() {
  outcome_ = apply(asked_, asked_version_);
  state_ = State::kDecided;
}

void TinyAuthority::answer() {
  state_ = State::kIdle;
  step_.set();
}

void TinyAuthority::cut() {
  cut_ = true;
  step_.set();
}

io::Task<Result<raid::MembershipRecord>> TinyAuthority::load(Uuid array) {
  if (cut_) co_return no_answer();
  if (!record_ || record_->array != array) co_return error(Code::k_not_found, "no such array");
  co_return *record_;
}

io::Task<Status> TinyAuthority::create(raid::MembershipRecord record) {
  BB_CO_TRY(raid::validate_record(record));
  record_ = std::move(record);
  co_return Status();
}

io::Task<Status> TinyAuthority::commit(raid::MembershipRecord record, uint64_t expected_version) {
  if (cut_) co_return no_answer();
  if (!held_) co_return apply(record, expected_version);
  asked_ = std::move(record);
  asked_version_ = expected_version;
  state_ = State::kAsked;
  step_.reset();
  co_await step_.wait();
  if (cut_) co_return no_answer();
  co_return outcome_;
}

}  // namespace bb::sim
