// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "sim/run_result.h"

namespace bb::sim {

enum class CampaignKind : uint8_t {
  kArray,
  kSession,
  kReserve,
  kNbd,
  kMultipath,
  kStripes,
  kChecked
};

// Many runs of one kind, with one seed after the other.
struct Campaign {
  CampaignKind kind = CampaignKind::kArray;
  uint64_t first_seed = 1;
  uint64_t runs = 1;
  uint64_t seconds = 0;  // no new run after that; 0: no limit
  bool trace = false;
  bool trace_hash = false;
  bool above_budget = false;
  bool digests = true;
};

// Each returns the exit status of the program. A failed check, a crash or a hang of the code under
// test prints the line that repeats the run, too.
int run_campaign(const Campaign& campaign);
int run_canaries(uint64_t runs_max, const std::string& only);
// Tries the seed that caught a mutant before (`known`, by name) ahead of all others.
using SeedsOfMutants = std::map<std::string, uint64_t, std::less<>>;
int run_mutants(uint64_t runs_max, const std::string& only, const SeedsOfMutants& known);

}  // namespace bb::sim
