// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/sync.h"
#include "raid/membership_authority.h"
#include "sim/sim_loop.h"

namespace bb::sim {

class AuthorityClient;

struct AuthorityFaults {
  uint32_t lost_request_one_in = 0;  // times out, nothing happened
  uint32_t lost_reply_one_in = 0;    // times out, it happened
  uint32_t late_one_in = 0;          // times out, it is decided later
};

// Keeps the record of one array as a quorum would: linearizable, with outcomes that may stay
// unknown. Remembers every record it ever committed.
class ModelAuthority {
 public:
  ModelAuthority(SimLoop& world, Prng prng) : world_(world), prng_(prng), late_(world) {}

  std::unique_ptr<AuthorityClient> connect(io::Loop& owner);
  AuthorityFaults& faults() { return faults_; }
  void set_down(bool down) { down_ = down; }  // requests time out

  bool exists() const { return !history_.empty(); }
  const raid::MembershipRecord& record() const { return history_.back(); }
  uint64_t proposed() const { return proposed_; }  // the newest version anybody asked to commit
  const std::vector<raid::MembershipRecord>& history() const { return history_; }
  // An array proposed what no array may: that is a finding, not an operating error.
  const std::string& unlawful() const { return unlawful_; }
  uint64_t fenced() const { return fenced_; }
  // A canary: the newest commit is forgotten, as if it had not been durable.
  void forget_last_commit();

  io::Task<void> drain();  // until late commits are decided

 private:
  friend class AuthorityClient;
  Status apply(const raid::MembershipRecord& record, uint64_t expected_version);
  static io::Task<void> apply_late(ModelAuthority* self, raid::MembershipRecord record,
                                   uint64_t expected_version, uint64_t delay_ns);

  SimLoop& world_;
  Prng prng_;
  AuthorityFaults faults_;
  bool down_ = false;
  uint64_t proposed_ = 0;
  std::vector<raid::MembershipRecord> history_;
  std::string unlawful_;
  uint64_t fenced_ = 0;
  io::TaskGroup late_;
};

// One life's way to the authority.
class AuthorityClient final : public raid::MembershipAuthority {
 public:
  AuthorityClient(ModelAuthority& authority, io::Loop& owner)
      : authority_(authority), owner_(owner) {}

  io::Task<Result<raid::MembershipRecord>> load(Uuid array) override;
  io::Task<Status> create(raid::MembershipRecord record) override;
  io::Task<Status> commit(raid::MembershipRecord record, uint64_t expected_version) override;

  void cut() { cut_ = true; }  // its node crashed: it reaches nobody any more
  void set_blocked(bool blocked) { blocked_ = blocked; }  // a partition between node and quorum

 private:
  bool unreachable() const { return cut_ || blocked_ || authority_.down_; }
  Status no_answer() const;
  uint64_t delay_ns();

  ModelAuthority& authority_;
  io::Loop& owner_;
  bool cut_ = false;
  bool blocked_ = false;
};

}  // namespace bb::sim
