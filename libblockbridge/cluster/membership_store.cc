// SPDX-License-Identifier: Apache-2.0
#include "cluster/membership_store.h"

#include <algorithm>

namespace bb::cluster {
namespace {

constexpr const char* kArrays = "/arrays/";
constexpr size_t kPage = 1024;

std::string record_key(const Uuid& array) {
  return fmt::format("{}{}/membership", kArrays, array.to_string());
}
std::string history_prefix(const Uuid& array) {
  return fmt::format("{}{}/history/", kArrays, array.to_string());
}
std::string history_key(const Uuid& array, uint64_t version) {
  return fmt::format("{}{:020}", history_prefix(array), version);
}
std::string name_key(const std::string& name) { return "/array-names/" + name; }

// Of a change: it may have happened.
bool is_unknown(Code code) { return code == Code::k_unavailable || code == Code::k_timed_out; }

Status of_array(const raid::MembershipRecord& record, const Status& status) {
  return status.with_context(
      fmt::format("membership of array \"{}\" version {}", record.name, record.version));
}

}  // namespace

MembershipStore::MembershipStore(io::Loop& loop, Store& store, MembershipStoreOptions options)
    : loop_(loop), store_(store), options_(options) {
  BB_CHECK(options.history_max >= 1 && options.history_max <= 48,
           "history of {} changes: a removal is one transaction", options.history_max);
}

io::Task<Result<MembershipStore::Stored>> MembershipStore::read(Uuid array) {
  auto found = co_await store_.get(record_key(array));
  if (!found.ok()) co_return found.status();
  if (!found->entry.has_value()) {
    co_return error(Code::k_not_found, "no array {}", array.to_string());
  }
  auto change = decode_membership(found->entry->value);
  if (!change.ok()) co_return change.status().with_context(record_key(array));
  if (change->record.array != array) {
    co_return error(Code::k_corrupt, "{}: holds the record of array {}", record_key(array),
                    change->record.array.to_string());
  }
  co_return Stored{.record = std::move(change->record), .mod_revision = found->entry->mod_revision};
}

io::Task<Result<raid::MembershipRecord>> MembershipStore::load(Uuid array) {
  auto stored = co_await read(array);
  if (!stored.ok()) co_return stored.status();
  co_return std::move(stored->record);
}

io::Task<Result<raid::MembershipRecord>> MembershipStore::load_by_name(std::string name) {
  auto found = co_await store_.get(name_key(name));
  if (!found.ok()) co_return found.status();
  if (!found->entry.has_value()) co_return error(Code::k_not_found, "no array \"{}\"", name);
  auto array = Uuid::parse(found->entry->value);
  if (!array.ok()) co_return error(Code::k_corrupt, "{}: not a uuid", name_key(name));
  co_return co_await load(*array);
}

io::Task<Result<std::vector<raid::MembershipRecord>>> MembershipStore::list() {
  std::vector<raid::MembershipRecord> records;
  auto names = co_await store_.list("/array-names/", kPage);
  if (!names.ok()) co_return names.status();
  if (names->more) co_return error(Code::k_no_space, "more than {} arrays", kPage);
  for (size_t i = 0; i < names->entries.size(); ++i) {
    auto array = Uuid::parse(names->entries[i].value);
    if (!array.ok()) co_return error(Code::k_corrupt, "{}: not a uuid", names->entries[i].key);
    auto record = co_await load(*array);
    if (record.ok()) {
      records.push_back(std::move(record).value());
    } else if (record.code() != Code::k_not_found) {  // removed meanwhile
      co_return record.status();
    }
  }
  co_return records;
}

io::Task<Result<std::vector<MembershipChange>>> MembershipStore::history(Uuid array) {
  auto found = co_await store_.list(history_prefix(array), kPage);
  if (!found.ok()) co_return found.status();
  if (found->entries.empty()) {
    co_return error(Code::k_not_found, "no history of array {}", array.to_string());
  }
  std::vector<MembershipChange> changes;
  for (const KeyValue& entry : found->entries) {
    auto change = decode_membership(entry.value);
    if (!change.ok()) co_return change.status().with_context(entry.key);
    changes.push_back(std::move(change).value());
  }
  co_return changes;
}

Op MembershipStore::history_op(const raid::MembershipRecord& record) const {
  return Op::put(history_key(record.array, record.version),
                 encode_membership(record, loop_.wall_ns()));
}

io::Task<bool> MembershipStore::pause_before(uint64_t deadline_ns) {
  if (loop_.now_ns() + options_.pause_ns >= deadline_ns) co_return false;
  co_await loop_.sleep_for(options_.pause_ns);
  co_return true;
}

io::Task<Status> MembershipStore::create(raid::MembershipRecord record) {
  Status lawful = raid::validate_record(record);
  if (lawful.ok() && record.version != 1) {
    lawful = error(Code::k_invalid_argument, "a new array begins with version 1");
  }
  if (!lawful.ok()) co_return of_array(record, lawful);
  uint64_t deadline_ns = loop_.now_ns() + options_.patience_ns;
  bool unknown = false;
  for (;;) {
    Verdict verdict = co_await try_create(&record, &unknown);
    if (verdict.has_value() && !is_unknown(verdict->code())) co_return *verdict;
    bool again = co_await pause_before(deadline_ns);
    if (again) continue;
    if (verdict.has_value()) co_return *verdict;
    co_return of_array(record, error(Code::k_timed_out, "not settled in time"));
  }
}

io::Task<MembershipStore::Verdict> MembershipStore::try_create(const raid::MembershipRecord* record,
                                                               bool* unknown) {
  auto done = co_await store_.txn(
      {.compares = {Compare::absent(record_key(record->array)),
                    Compare::absent(name_key(record->name))},
       .then_ops = {Op::put(record_key(record->array), encode_membership(*record)),
                    Op::put(name_key(record->name), record->array.to_string()),
                    history_op(*record)},
       .else_reads = {record_key(record->array), name_key(record->name)}});
  if (!done.ok()) {
    if (is_unknown(done.code())) *unknown = true;
    co_return of_array(*record, done.status());
  }
  if (done->succeeded) co_return Status();
  if (!done->reads[0].has_value()) {
    co_return error(Code::k_already_exists, "array \"{}\": the name belongs to array {}",
                    record->name, done->reads[1]->value);
  }
  // Ours, from an attempt whose answer was lost?
  if (*unknown && done->reads[0]->value == encode_membership(*record)) co_return Status();
  co_return error(Code::k_already_exists, "array \"{}\": there is a record of array {}",
                  record->name, record->array.to_string());
}

io::Task<Status> MembershipStore::commit(raid::MembershipRecord record, uint64_t expected_version) {
  uint64_t deadline_ns = loop_.now_ns() + options_.patience_ns;
  for (;;) {
    Verdict verdict = co_await try_commit(&record, expected_version);
    if (verdict.has_value() && !is_unknown(verdict->code())) co_return *verdict;
    bool again = co_await pause_before(deadline_ns);
    if (again) continue;
    if (verdict.has_value()) co_return *verdict;
    co_return of_array(record, error(Code::k_timed_out, "not settled in time"));
  }
}

io::Task<MembershipStore::Verdict> MembershipStore::try_commit(const raid::MembershipRecord* record,
                                                               uint64_t expected_version) {
  auto stored = co_await read(record->array);
  if (!stored.ok()) co_return of_array(*record, stored.status());
  const raid::MembershipRecord& now = stored->record;
  // Already so: an earlier attempt, of this call or of a former one, arrived.
  if (now == *record) co_return Status();
  if (now.epoch > record->epoch) {
    co_return of_array(*record, error(Code::k_fenced, "epoch {} follows {}: a newer owner decides",
                                      record->epoch, now.epoch));
  }
  if (now.version != expected_version) {
    co_return of_array(*record, error(Code::k_bad_state, "version {} is stored, {} was expected",
                                      now.version, expected_version));
  }
  Status lawful = raid::validate_transition(now, *record);
  if (!lawful.ok()) co_return lawful;
  Txn txn{.compares = {Compare::unchanged(record_key(record->array), stored->mod_revision)},
          .then_ops = {Op::put(record_key(record->array), encode_membership(*record)),
                       history_op(*record)}};
  if (record->version > options_.history_max) {
    txn.then_ops.push_back(
        Op::erase(history_key(record->array, record->version - options_.history_max)));
  }
  auto done = co_await store_.txn(std::move(txn));
  if (!done.ok()) co_return of_array(*record, done.status());
  if (done->succeeded) co_return Status();
  co_return Verdict();  // somebody was faster: read what there is now
}

io::Task<Status> MembershipStore::remove(Uuid array, uint64_t expected_version) {
  uint64_t deadline_ns = loop_.now_ns() + options_.patience_ns;
  bool unknown = false;
  for (;;) {
    Verdict verdict = co_await try_remove(array, expected_version, &unknown);
    if (verdict.has_value() && !is_unknown(verdict->code())) co_return *verdict;
    bool again = co_await pause_before(deadline_ns);
    if (again) continue;
    if (verdict.has_value()) co_return *verdict;
    co_return error(Code::k_timed_out, "remove array {}: not settled in time", array.to_string());
  }
}

io::Task<MembershipStore::Verdict> MembershipStore::try_remove(Uuid array,
                                                               uint64_t expected_version,
                                                               bool* unknown) {
  auto stored = co_await read(array);
  if (!stored.ok()) {
    if (stored.code() == Code::k_not_found && *unknown) co_return Status();
    co_return stored.status();
  }
  if (stored->record.version != expected_version) {
    co_return of_array(stored->record, error(Code::k_bad_state, "not removed: version {} expected",
                                             expected_version));
  }
  auto changes = co_await store_.list(history_prefix(array), kPage);
  if (!changes.ok()) co_return changes.status();
  Txn txn{.compares = {Compare::unchanged(record_key(array), stored->mod_revision)},
          .then_ops = {Op::erase(record_key(array)), Op::erase(name_key(stored->record.name))}};
  for (const KeyValue& entry : changes->entries) txn.then_ops.push_back(Op::erase(entry.key));
  auto done = co_await store_.txn(std::move(txn));
  if (!done.ok()) {
    if (is_unknown(done.code())) *unknown = true;
    co_return of_array(stored->record, done.status());
  }
  if (done->succeeded) co_return Status();
  co_return Verdict();
}

}  // namespace bb::cluster
