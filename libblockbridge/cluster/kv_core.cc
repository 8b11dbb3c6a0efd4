// SPDX-License-Identifier: Apache-2.0
// pure: values only
#include "cluster/kv_core.h"

#include <algorithm>
#include <set>

namespace bb::cluster {

Status KvCore::restore(std::vector<KeyValue> entries, std::vector<LeaseRecord> leases,
                       uint64_t revision, uint64_t next_lease) {
  BB_CHECK(entries_.empty() && leases_.empty(), "restored into a store that is in use");
  revision_ = compacted_revision_ = revision;
  next_lease_ = next_lease;
  for (LeaseRecord& lease : leases) {
    if (lease.id >= next_lease) {
      return error(Code::k_corrupt, "lease {} is not below the next number {}", lease.id,
                   next_lease);
    }
    leases_.emplace(lease.id, lease);
  }
  for (KeyValue& entry : entries) {
    if (entry.mod_revision > revision || entry.create_revision > entry.mod_revision) {
      return error(Code::k_corrupt, "key \"{}\": revisions {} and {} in a store at revision {}",
                   entry.key, entry.create_revision, entry.mod_revision, revision);
    }
    if (entry.lease != 0 && !leases_.contains(entry.lease)) {
      return error(Code::k_corrupt, "key \"{}\": lease {} does not exist", entry.key, entry.lease);
    }
    total_bytes_ += cost(entry);
    std::string key = entry.key;
    entries_.emplace(std::move(key), std::move(entry));
  }
  return {};
}

Status KvCore::check_key(const std::string& key) const {
  if (!key.empty() && key.size() <= limits_.key_bytes_max) return {};
  return error(Code::k_invalid_argument, "key \"{}\" has {} bytes, allowed are 1 to {}",
               key.substr(0, 64), key.size(), limits_.key_bytes_max);
}

std::optional<KeyValue> KvCore::find(const std::string& key) const {
  auto found = entries_.find(key);
  return found == entries_.end() ? std::nullopt : std::optional<KeyValue>(found->second);
}

Result<GetResult> KvCore::get(const std::string& key) const {
  BB_TRY(check_key(key));
  return GetResult{.entry = find(key), .revision = revision_};
}

Result<ListResult> KvCore::list(const std::string& prefix, size_t limit) const {
  if (limit == 0 || limit > limits_.list_max) {
    return error(Code::k_invalid_argument, "list \"{}\": limit {}, allowed are 1 to {}", prefix,
                 limit, limits_.list_max);
  }
  ListResult result{.revision = revision_};
  for (auto at = entries_.lower_bound(prefix); at != entries_.end(); ++at) {
    if (!at->first.starts_with(prefix)) break;
    if (result.entries.size() == limit) {
      result.more = true;
      break;
    }
    result.entries.push_back(at->second);
  }
  return result;
}

Status KvCore::check_txn(const Txn& txn) const {
  size_t most = std::max({txn.compares.size(), txn.then_ops.size(), txn.else_reads.size()});
  if (most > limits_.operations_max) {
    return error(Code::k_invalid_argument, "a transaction of {} operations, allowed are {}", most,
                 limits_.operations_max);
  }
  for (const Compare& compare : txn.compares) BB_TRY(check_key(compare.key));
  for (const std::string& key : txn.else_reads) BB_TRY(check_key(key));
  std::set<std::string_view> changed;
  for (const Op& op : txn.then_ops) {
    BB_TRY(check_key(op.key));
    if (!changed.insert(op.key).second) {
      return error(Code::k_invalid_argument, "key \"{}\" is changed twice in a transaction",
                   op.key);
    }
    if (op.value.size() > limits_.value_bytes_max) {
      return error(Code::k_invalid_argument, "key \"{}\": the value has {} bytes, allowed are {}",
                   op.key, op.value.size(), limits_.value_bytes_max);
    }
  }
  return {};
}

bool KvCore::holds(const Compare& compare) const {
  auto found = entries_.find(compare.key);
  switch (compare.target) {
    case Compare::Target::kModRevision:
      return (found == entries_.end() ? 0 : found->second.mod_revision) == compare.mod_revision;
    case Compare::Target::kValue:
      return found != entries_.end() && found->second.value == compare.value;
  }
  return false;
}

Status KvCore::check_space(const Effects& effects) const {
  uint64_t bytes = total_bytes_;
  size_t keys = entries_.size();
  for (const WatchEvent& event : effects.events) {
    auto old = entries_.find(event.entry.key);
    if (old != entries_.end()) {
      bytes -= cost(old->second);
      --keys;
    }
    if (event.kind == WatchEvent::Kind::kDelete) continue;
    bytes += cost(event.entry);
    ++keys;
  }
  if (keys > limits_.keys_max && keys > entries_.size()) {
    return error(Code::k_no_space, "the store has {} keys, allowed are {}", entries_.size(),
                 limits_.keys_max);
  }
  if (bytes > limits_.total_bytes_max && bytes > total_bytes_) {
    return error(Code::k_no_space, "the store holds {} bytes, this makes {}, allowed are {}",
                 total_bytes_, bytes, limits_.total_bytes_max);
  }
  return {};
}

Result<KvCore::Plan> KvCore::plan_txn(const Txn& txn) const {
  BB_TRY(check_txn(txn));
  Plan plan;
  plan.result.revision = plan.effects.revision = revision_;
  plan.result.succeeded = std::all_of(txn.compares.begin(), txn.compares.end(),
                                      [this](const Compare& compare) { return holds(compare); });
  if (!plan.result.succeeded) {
    for (const std::string& key : txn.else_reads) plan.result.reads.push_back(find(key));
    return plan;
  }
  uint64_t revision = revision_ + 1;
  for (const Op& op : txn.then_ops) {
    auto old = entries_.find(op.key);
    WatchEvent event{.entry = {.key = op.key, .mod_revision = revision}};
    if (op.kind == Op::Kind::kDelete) {
      if (old == entries_.end()) continue;
      event.kind = WatchEvent::Kind::kDelete;
    } else {
      if (op.lease != 0 && !leases_.contains(op.lease)) {
        return error(Code::k_not_found, "key \"{}\": no lease {}", op.key, op.lease);
      }
      event.entry.value = op.value;
      event.entry.lease = op.lease;
      event.entry.create_revision = old == entries_.end() ? revision : old->second.create_revision;
      event.entry.version = old == entries_.end() ? 1 : old->second.version + 1;
    }
    plan.effects.events.push_back(std::move(event));
  }
  BB_TRY(check_space(plan.effects));
  if (!plan.effects.events.empty()) plan.result.revision = plan.effects.revision = revision;
  return plan;
}

Result<Effects> KvCore::plan_grant(uint64_t ttl_ns, uint64_t now_ns) const {
  if (ttl_ns == 0 || ttl_ns > UINT64_MAX / 4) {
    return error(Code::k_invalid_argument, "a lease of {} ns", ttl_ns);
  }
  if (leases_.size() >= limits_.leases_max) {
    return error(Code::k_no_space, "the store has {} leases, allowed are {}", leases_.size(),
                 limits_.leases_max);
  }
  return Effects{
      .revision = revision_,
      .granted = LeaseRecord{.id = next_lease_, .ttl_ns = ttl_ns, .deadline_ns = now_ns + ttl_ns}};
}

Result<Effects> KvCore::plan_revoke(uint64_t lease) const {
  if (!leases_.contains(lease)) return error(Code::k_not_found, "no lease {}", lease);
  Effects effects{.revision = revision_, .revoked = lease};
  for (const auto& [key, entry] : entries_) {
    if (entry.lease != lease) continue;
    effects.revision = revision_ + 1;
    effects.events.push_back(
        {.kind = WatchEvent::Kind::kDelete, .entry = {.key = key, .mod_revision = revision_ + 1}});
  }
  return effects;
}

Status KvCore::keep_alive(uint64_t lease, uint64_t now_ns) {
  auto found = leases_.find(lease);
  if (found == leases_.end()) return error(Code::k_not_found, "no lease {}", lease);
  found->second.deadline_ns = now_ns + found->second.ttl_ns;
  return {};
}

void KvCore::apply(const Effects& effects) {
  BB_CHECK(effects.revision == revision_ + (effects.events.empty() ? 0 : 1),
           "effects planned at another revision: {} after {}", effects.revision, revision_);
  revision_ = effects.revision;
  if (effects.granted.has_value()) {
    leases_.emplace(effects.granted->id, *effects.granted);
    next_lease_ = effects.granted->id + 1;
  }
  if (effects.revoked != 0) leases_.erase(effects.revoked);
  for (const WatchEvent& event : effects.events) {
    auto old = entries_.find(event.entry.key);
    if (old != entries_.end()) {
      total_bytes_ -= cost(old->second);
      entries_.erase(old);
    }
    if (event.kind == WatchEvent::Kind::kPut) {
      total_bytes_ += cost(event.entry);
      entries_.emplace(event.entry.key, event.entry);
    }
    history_.push_back(event);
  }
  // Whole revisions only: half of one would be a gap that nobody could see.
  while (history_.size() > limits_.history_events_max) {
    compacted_revision_ = history_.front().entry.mod_revision;
    while (!history_.empty() && history_.front().entry.mod_revision == compacted_revision_) {
      history_.pop_front();
    }
  }
}

std::optional<uint64_t> KvCore::expired_lease(uint64_t now_ns) const {
  for (const auto& [id, lease] : leases_) {
    if (lease.deadline_ns <= now_ns) return id;
  }
  return std::nullopt;
}

std::optional<uint64_t> KvCore::next_expiry_ns() const {
  std::optional<uint64_t> first;
  for (const auto& [id, lease] : leases_) {
    if (!first.has_value() || lease.deadline_ns < *first) first = lease.deadline_ns;
  }
  return first;
}

Result<std::vector<WatchEvent>> KvCore::events(const std::string& prefix,
                                               uint64_t from_revision) const {
  if (from_revision <= compacted_revision_) {
    return error(Code::k_bad_state,
                 "watch \"{}\" from revision {}: changes up to {} are forgotten; list again, then "
                 "watch from there",
                 prefix, from_revision, compacted_revision_);
  }
  std::vector<WatchEvent> found;
  auto at = std::lower_bound(history_.begin(), history_.end(), from_revision,
                             [](const WatchEvent& event, uint64_t revision) {
                               return event.entry.mod_revision < revision;
                             });
  for (; at != history_.end(); ++at) {
    if (at->entry.key.starts_with(prefix)) found.push_back(*at);
  }
  return found;
}

}  // namespace bb::cluster
