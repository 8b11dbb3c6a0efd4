// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cluster/membership_codec.h"
#include "cluster/store.h"
#include "raid/membership_authority.h"

namespace bb::cluster {

struct MembershipStoreOptions {
  uint64_t patience_ns = 5'000'000'000;  // how long an unknown outcome is looked into
  uint64_t pause_ns = 20'000'000;        // between two attempts
  uint32_t history_max = 32;             // changes kept for each array
};

// Array membership in the cluster's store:
//   /arrays/UUID/membership          the committed record (JSON)
//   /arrays/UUID/history/VERSION     the last changes, with their time
//   /array-names/NAME                the uuid: names are unique
// Each commit is one transaction that compares the record's revision, so of two owners one wins. A
// lost answer is settled by reading: the same record stored is success, the old one is tried again.
class MembershipStore final : public raid::MembershipAuthority {
 public:
  MembershipStore(io::Loop& loop, Store& store, MembershipStoreOptions options = {});

  io::Task<Result<raid::MembershipRecord>> load(Uuid array) override;
  io::Task<Status> create(raid::MembershipRecord record) override;
  io::Task<Status> commit(raid::MembershipRecord record, uint64_t expected_version) override;

  io::Task<Result<raid::MembershipRecord>> load_by_name(std::string name);
  io::Task<Result<std::vector<raid::MembershipRecord>>> list();         // by name
  io::Task<Result<std::vector<MembershipChange>>> history(Uuid array);  // oldest first
  // Forgets the array and its history. BAD_STATE: it is at another version.
  io::Task<Status> remove(Uuid array, uint64_t expected_version);

 private:
  struct Stored {
    raid::MembershipRecord record;
    uint64_t mod_revision = 0;
  };
  // What one attempt came to: nothing means "look again".
  using Verdict = std::optional<Status>;

  io::Task<Result<Stored>> read(Uuid array);
  io::Task<Verdict> try_create(const raid::MembershipRecord* record, bool* unknown);
  io::Task<Verdict> try_commit(const raid::MembershipRecord* record, uint64_t expected_version);
  io::Task<Verdict> try_remove(Uuid array, uint64_t expected_version, bool* unknown);
  io::Task<bool> pause_before(uint64_t deadline_ns);
  Op history_op(const raid::MembershipRecord& record) const;

  io::Loop& loop_;
  Store& store_;
  MembershipStoreOptions options_;
};

}  // namespace bb::cluster
