// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <numeric>

#include "backplane/query.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

// Steps of the search for drives that differ in several keys at once; one key never needs it.
constexpr uint64_t kSearchStepsMax = 200'000;

struct Search {
  const std::vector<DriveRecord>* drives;
  const std::vector<DriveKey>* unique;
  const std::vector<size_t>* candidates;
  size_t wanted;
  uint64_t steps = 0;
  std::vector<size_t> picked;
  std::vector<size_t> best;

  // The chosen drive that already has one of this drive's unique values; picked.size() if none.
  size_t conflict(size_t drive, DriveKey* key) const {
    for (size_t i = 0; i < picked.size(); ++i)
      for (DriveKey k : *unique)
        if (drive_value((*drives)[picked[i]], k) == drive_value((*drives)[drive], k)) {
          *key = k;
          return i;
        }
    return picked.size();
  }

  // Depth first in the order of the candidates, so the first answer is the one with lowest slots.
  bool extend(size_t from) {
    if (picked.size() > best.size()) best = picked;
    if (picked.size() == wanted) return true;
    for (size_t i = from; i < candidates->size(); ++i) {
      if (picked.size() + (candidates->size() - i) <= best.size()) return false;  // no better
      if (++steps > kSearchStepsMax) return false;
      DriveKey key{};
      if (conflict((*candidates)[i], &key) != picked.size()) continue;
      picked.push_back((*candidates)[i]);
      if (extend(i + 1)) return true;
      picked.pop_back();
      // With one key a greedy pick is as good as any other: nothing is gained by going back.
      if (unique->size() <= 1) return false;
    }
    return false;
  }
};

// What counts as one reason when refusals are counted: without the drive's own value.
std::string reason_kind(const std::string& reason) { return reason.substr(0, reason.find(": ")); }

std::string count_reasons(const std::vector<Refused>& refused) {
  std::map<std::string, size_t> counts;
  for (const Refused& one : refused) ++counts[reason_kind(one.reason)];
  std::string text;
  for (const auto& [reason, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : "; ", count, reason);
  return text;
}

struct Groups {
  std::vector<uint64_t> order;  // capacities, by their first drive in drive_before order
  std::map<uint64_t, std::vector<size_t>> members;
};

std::string unique_text(const std::vector<DriveKey>& unique) {
  std::string text;
  for (DriveKey key : unique) text += fmt::format(" with unique {}", drive_key_name(key));
  return text;
}

void explain_rest(const std::vector<DriveRecord>& drives, const std::vector<DriveKey>& unique,
                  const Groups& groups, const Search& best, Choice* choice) {
  if (best.best.empty()) return;
  Search shown = best;
  shown.picked = best.best;
  uint64_t capacity = drives[best.best.front()].capacity_bytes;
  for (const auto& [group, members] : groups.members) {
    for (size_t drive : members) {
      if (std::find(best.best.begin(), best.best.end(), drive) != best.best.end()) continue;
      DriveKey key{};
      size_t who = shown.conflict(drive, &key);
      if (group != capacity)
        choice->refused.push_back(
            {drive,
             fmt::format("other capacity: {} bytes, and the chosen have {}", group, capacity)});
      else if (!unique.empty() && who != shown.picked.size())
        choice->refused.push_back(
            {drive, fmt::format("unique {}: \"{}\" is taken by slot {} of {}", drive_key_name(key),
                                drive_value(drives[drive], key), drives[best.best[who]].slot,
                                drives[best.best[who]].disk_node)});
      else
        choice->refused.push_back({drive, "not needed"});
    }
  }
}

}  // namespace

Status choose_drives(const Query& query, const std::vector<DriveRecord>& drives,
                     ChooseOptions options, Choice* choice) {
  *choice = {};
  if (options.count == 0) return error(Code::k_invalid_argument, "query: 0 drives wanted");
  std::vector<DriveKey> unique = query.unique;
  if (options.spread && std::find(unique.begin(), unique.end(), DriveKey::kDomain) == unique.end())
    unique.push_back(DriveKey::kDomain);
  std::vector<size_t> order(drives.size());
  std::iota(order.begin(), order.end(), size_t{0});
  auto before = [&](size_t a, size_t b) { return drive_before(drives[a], drives[b]); };
  std::sort(order.begin(), order.end(), before);

  Groups groups;
  for (size_t drive : order) {
    std::string reason = query_refusal(query, drives[drive]);
    if (reason.empty()) reason = drives[drive].refusal;
    if (!reason.empty()) {
      choice->refused.push_back({drive, std::move(reason)});
      continue;
    }
    uint64_t capacity = drives[drive].capacity_bytes;
    if (groups.members[capacity].empty()) groups.order.push_back(capacity);
    groups.members[capacity].push_back(drive);
  }

  Search best{.drives = &drives, .unique = &unique, .candidates = nullptr, .wanted = options.count};
  bool gave_up = false;
  for (uint64_t capacity : groups.order) {
    Search search{.drives = &drives,
                  .unique = &unique,
                  .candidates = &groups.members[capacity],
                  .wanted = options.count};
    bool found = search.extend(0);
    gave_up = gave_up || search.steps > kSearchStepsMax;
    if (search.best.size() > best.best.size()) best.best = search.best;
    if (found) break;
  }
  explain_rest(drives, unique, groups, best, choice);
  std::sort(choice->refused.begin(), choice->refused.end(),
            [&](const Refused& a, const Refused& b) { return before(a.drive, b.drive); });
  if (best.best.size() == options.count) {
    choice->chosen = std::move(best.best);
    return ok_status();
  }
  std::string why = choice->refused.empty() ? "" : "; refused: " + count_reasons(choice->refused);
  return error(Code::k_no_space, "needs {} drives{}, found {} of {} visible{}{}", options.count,
               unique_text(unique), best.best.size(), drives.size(), why,
               gave_up ? "; the search was cut short" : "");
}

}  // namespace bb::backplane
