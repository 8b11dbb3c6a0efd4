// SPDX-License-Identifier: Apache-2.0
// pure: which of several paths the next command takes
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace bb::io::nvme {

enum class PathPolicy : uint8_t { kRoundRobin, kLatency, kActivePassive };
std::string_view path_policy_name(PathPolicy policy);
std::optional<PathPolicy> path_policy_of(std::string_view name);

// What the choice needs to know of a path.
struct PathLoad {
  bool usable = false;
  bool optimized = true;  // ANA: others are taken only when no optimized one is usable
  uint32_t in_flight = 0;
  uint32_t capacity = 0;    // commands at once
  uint64_t latency_ns = 0;  // smoothed; 0: not known yet

  bool room() const { return in_flight < capacity; }
  void note_latency(uint64_t took_ns);
};

// Round robin takes the usable paths in turn; latency the one where a command would be done first,
// judged by what it took lately and how many are ahead; active-passive the first usable one. One
// that is full is passed over, except by active-passive, which waits for it.
class PathChooser {
 public:
  explicit PathChooser(PathPolicy policy) : policy_(policy) {}
  // The index, or nothing when no usable path has room.
  std::optional<size_t> choose(const std::vector<PathLoad*>& paths);
  PathPolicy policy() const { return policy_; }

 private:
  PathPolicy policy_;
  size_t last_ = SIZE_MAX;
};

}  // namespace bb::io::nvme
