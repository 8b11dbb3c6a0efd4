// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace bb::sim {

struct TinyArguments {
  bool full = false;    // all configurations, else the short set
  std::string only;     // the one of this name
  std::string choices;  // one run of it
  std::string mutant;   // a planted bug, in a build that has them
  bool without_reduction = false;
  uint64_t runs_max = UINT64_MAX;  // of each
};

// The exit status of the program.
int run_tiny(const TinyArguments& arguments);

}  // namespace bb::sim
