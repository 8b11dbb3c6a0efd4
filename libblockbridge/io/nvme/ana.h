// SPDX-License-Identifier: Apache-2.0
// pure: what the Asymmetric Namespace Access log page says of one namespace
#pragma once

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"

namespace bb::io::nvme {

// NVMe base 2.0, 8.1 (Asymmetric Namespace Access Reporting): how a controller reaches a namespace.
enum class AnaState : uint8_t {
  kOptimized = 0x1,
  kNonOptimized = 0x2,
  kInaccessible = 0x3,
  kPersistentLoss = 0x4,
  kChange = 0xf,
};
std::string_view ana_state_name(AnaState state);
Result<AnaState> parse_ana_state(std::string_view name);  // INVALID_ARGUMENT
constexpr bool ana_usable(AnaState state) {
  return state == AnaState::kOptimized || state == AnaState::kNonOptimized;
}

inline constexpr uint32_t kAnaGroupMax = 32;  // groups 1 to 32

inline constexpr size_t kAnaHeaderBytes = 16;
inline constexpr size_t kAnaGroupBytes = 32;  // and four for each namespace it names

// Finds the state of `nsid` in a log page (0Ch, 5.16.1.13) that may be cut off at its end. By the
// list of namespaces, or, where the groups list none, by the group the namespace says it is in.
// NOT_FOUND when no group has it; IO_ERROR for states that there are not.
Result<AnaState> find_ana_state(ConstBytes log, uint32_t nsid, uint32_t group);

}  // namespace bb::io::nvme
