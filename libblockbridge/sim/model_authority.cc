// SPDX-License-Identifier: Apache-2.0
#include "sim/model_authority.h"

namespace bb::sim {
namespace {

constexpr uint64_t kTimeoutNs = 300'000'000;

}  // namespace

std::unique_ptr<AuthorityClient> ModelAuthority::connect(io::Loop& owner) {
  return std::make_unique<AuthorityClient>(*this, owner);
}

Status ModelAuthority::apply(const raid::MembershipRecord& record, uint64_t expected_version) {
  if (history_.empty()) return error(Code::k_not_found, "no record");
  const raid::MembershipRecord& stored = history_.back();
  if (record.epoch < stored.epoch) {
    ++fenced_;
    return error(Code::k_fenced, "epoch {} is older than {}", record.epoch, stored.epoch);
  }
  if (stored.version != expected_version) {
    return error(Code::k_bad_state, "the version is {}, not {}", stored.version, expected_version);
  }
  Status lawful = raid::validate_transition(stored, record);
  if (!lawful.ok()) {
    if (unlawful_.empty()) unlawful_ = lawful.to_string();
    return lawful;
  }
  history_.push_back(record);
  world_.trace().event(world_.now_ns(), "commit", record.version, record.epoch,
                       record.count(raid::MemberState::kInSync));
  return {};
}

io::Task<void> ModelAuthority::apply_late(ModelAuthority* self, raid::MembershipRecord record,
                                          uint64_t expected_version, uint64_t delay_ns) {
  co_await self->world_.sleep_for(delay_ns);
  (void)self->apply(record, expected_version);
}

void ModelAuthority::forget_last_commit() {
  if (history_.size() > 1) history_.pop_back();
}

io::Task<void> ModelAuthority::drain() { return late_.join(); }

Status AuthorityClient::no_answer() const {
  return error(Code::k_timed_out, "authority: no answer within {} ms", kTimeoutNs / 1'000'000);
}

uint64_t AuthorityClient::delay_ns() { return authority_.prng_.between(50'000, 1'500'000); }

io::Task<Result<raid::MembershipRecord>> AuthorityClient::load(Uuid array) {
  co_await owner_.sleep_for(delay_ns());
  if (unreachable() || authority_.prng_.chance(authority_.faults_.lost_request_one_in)) {
    co_await owner_.sleep_for(kTimeoutNs);
    co_return no_answer();
  }
  if (authority_.history_.empty() || authority_.record().array != array) {
    co_return error(Code::k_not_found, "authority: no array {}", array.to_string());
  }
  raid::MembershipRecord record = authority_.record();
  co_await owner_.sleep_for(delay_ns());
  if (unreachable()) co_return no_answer();
  co_return record;
}

io::Task<Status> AuthorityClient::create(raid::MembershipRecord record) {
  co_await owner_.sleep_for(delay_ns());
  if (unreachable()) co_return no_answer();
  if (!authority_.history_.empty()) {
    co_return error(Code::k_already_exists, "authority: array {}", record.array.to_string());
  }
  BB_CO_TRY(raid::validate_record(record));
  authority_.history_.push_back(std::move(record));
  co_await owner_.sleep_for(delay_ns());
  co_return Status();
}

io::Task<Status> AuthorityClient::commit(raid::MembershipRecord record, uint64_t expected_version) {
  authority_.proposed_ = std::max(authority_.proposed_, record.version);
  co_await owner_.sleep_for(delay_ns());
  Prng& prng = authority_.prng_;
  if (unreachable() || prng.chance(authority_.faults_.lost_request_one_in)) {
    co_await owner_.sleep_for(kTimeoutNs);
    co_return no_answer();
  }
  if (prng.chance(authority_.faults_.late_one_in)) {
    uint64_t delay = prng.between(1'000'000, 2 * kTimeoutNs);
    authority_.late_.spawn(
        ModelAuthority::apply_late(&authority_, std::move(record), expected_version, delay));
    co_await owner_.sleep_for(kTimeoutNs);
    co_return no_answer();
  }
  Status status = authority_.apply(record, expected_version);
  bool reply_lost = prng.chance(authority_.faults_.lost_reply_one_in);
  co_await owner_.sleep_for(reply_lost ? kTimeoutNs : delay_ns());
  if (reply_lost || unreachable()) co_return no_answer();
  co_return status;
}

}  // namespace bb::sim
