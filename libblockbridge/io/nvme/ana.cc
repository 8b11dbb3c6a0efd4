// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/ana.h"

namespace bb::io::nvme {
namespace {

Result<AnaState> state_of(std::byte raw) {
  auto state = static_cast<AnaState>(static_cast<uint8_t>(raw) & 0xf);
  switch (state) {
    case AnaState::kOptimized:
    case AnaState::kNonOptimized:
    case AnaState::kInaccessible:
    case AnaState::kPersistentLoss:
    case AnaState::kChange:
      return state;
  }
  return error(Code::k_io_error, "ANA state {:#x} is none of 1, 2, 3, 4, f",
               static_cast<uint8_t>(raw) & 0xf);
}

}  // namespace

std::string_view ana_state_name(AnaState state) {
  switch (state) {
    case AnaState::kOptimized:
      return "optimized";
    case AnaState::kNonOptimized:
      return "non-optimized";
    case AnaState::kInaccessible:
      return "inaccessible";
    case AnaState::kPersistentLoss:
      return "persistent-loss";
    case AnaState::kChange:
      return "change";
  }
  return "unknown";
}

Result<AnaState> parse_ana_state(std::string_view name) {
  for (AnaState state : {AnaState::kOptimized, AnaState::kNonOptimized, AnaState::kInaccessible,
                         AnaState::kPersistentLoss, AnaState::kChange}) {
    if (name == ana_state_name(state)) return state;
  }
  return error(Code::k_invalid_argument,
               "ANA state \"{}\" is none of optimized, non-optimized, inaccessible, "
               "persistent-loss, change",
               name);
}

Result<AnaState> find_ana_state(ConstBytes log, uint32_t nsid, uint32_t group) {
  if (log.size() < kAnaHeaderBytes) {
    return error(Code::k_io_error, "an ANA log of {} bytes, at least {} are needed", log.size(),
                 kAnaHeaderBytes);
  }
  auto groups = load_le<uint16_t>(log.data() + 8);
  size_t at = kAnaHeaderBytes;
  for (uint32_t i = 0; i < groups && log.size() - at >= kAnaGroupBytes; ++i) {
    const std::byte* entry = log.data() + at;
    auto id = load_le<uint32_t>(entry);
    auto count = load_le<uint32_t>(entry + 4);
    at += kAnaGroupBytes;
    if (count == 0 && group != 0 && id == group) return state_of(entry[16]);
    size_t there = (log.size() - at) / 4;
    for (size_t n = 0; n < count && n < there; ++n) {
      if (load_le<uint32_t>(log.data() + at + 4 * n) == nsid) return state_of(entry[16]);
    }
    if (count > there) break;
    at += size_t{4} * count;
  }
  return error(Code::k_not_found, "no ANA group has namespace {}", nsid);
}

}  // namespace bb::io::nvme
