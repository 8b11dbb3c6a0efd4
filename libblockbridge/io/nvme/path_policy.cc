// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/path_policy.h"

#include <algorithm>

namespace bb::io::nvme {
namespace {

struct Row {
  PathPolicy policy;
  std::string_view name;
};
constexpr Row kRows[] = {{PathPolicy::kRoundRobin, "round-robin"},
                         {PathPolicy::kLatency, "latency"},
                         {PathPolicy::kActivePassive, "active-passive"}};

uint64_t expected_ns(const PathLoad& path) {
  return path.latency_ns * (uint64_t{path.in_flight} + 1);
}

// What was slow once is forgotten by and by, or it would never be tried again: half of it within
// some 180 commands that went elsewhere.
void forget(PathLoad& path) { path.latency_ns -= path.latency_ns >> 8; }

}  // namespace

std::string_view path_policy_name(PathPolicy policy) {
  for (const Row& row : kRows) {
    if (row.policy == policy) return row.name;
  }
  return "?";
}

std::optional<PathPolicy> path_policy_of(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.policy;
  }
  return std::nullopt;
}

void PathLoad::note_latency(uint64_t took_ns) {
  took_ns = std::clamp<uint64_t>(took_ns, 1, 3600'000'000'000);
  latency_ns = latency_ns == 0 ? took_ns : latency_ns - latency_ns / 8 + took_ns / 8;
}

std::optional<size_t> PathChooser::choose(const std::vector<PathLoad*>& paths) {
  if (paths.size() == 1) {
    return paths[0]->usable && paths[0]->room() ? std::optional<size_t>(0) : std::nullopt;
  }
  bool optimized = std::any_of(paths.begin(), paths.end(),
                               [](const PathLoad* p) { return p->usable && p->optimized; });
  std::optional<size_t> best;
  for (size_t step = 1; step <= paths.size(); ++step) {
    bool in_order = policy_ == PathPolicy::kActivePassive;
    size_t i = in_order ? step - 1 : (last_ + step) % paths.size();
    const PathLoad& path = *paths[i];
    if (!path.usable || path.optimized != optimized) continue;
    if (in_order) return path.room() ? std::optional<size_t>(i) : std::nullopt;
    if (!path.room()) continue;
    if (!best || expected_ns(path) < expected_ns(*paths[*best])) best = i;
    if (policy_ == PathPolicy::kRoundRobin) break;
  }
  if (!best) return best;
  last_ = *best;
  if (policy_ == PathPolicy::kLatency) {
    for (size_t i = 0; i < paths.size(); ++i) {
      if (i != *best) forget(*paths[i]);
    }
  }
  return best;
}

}  // namespace bb::io::nvme
