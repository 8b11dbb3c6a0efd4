// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "sim/tiny_check.h"

namespace bb::sim {

struct TinyFinding {
  std::string violation;  // empty: none
  TinyChoices choices;
};

// Goes through all that may happen to one configuration, depth first. Nothing of a run is kept:
// each begins anew and repeats the choices that lead to where the next one differs.
class TinySearch {
 public:
  struct Counts {
    uint64_t runs = 0;
    uint64_t redundant = 0;  // of these, that stopped where all went on as in an earlier one
    uint64_t states = 0;     // between two events; one may be met again by another way
    uint64_t longest = 0;    // events of a run
    bool stopped = false;    // at runs_max: not all was tried
  };

  // `reduce`: of events that commute, one order is tried.
  TinySearch(const TinyConfig& config, bool reduce);
  TinyFinding explore(uint64_t runs_max);
  // `story`: in words.
  TinyFinding repeat(const TinyChoices& choices, std::string* story);
  const Counts& counts() const { return counts_; }
  const TinyChecker& checker() const { return checker_; }

 private:
  // An event that need not be tried here, since all that follows it was gone through already.
  struct Asleep {
    TinyEvent event;
    uint64_t asked_mask = 0;  // what TinyRun::take said of it
  };
  struct Place {
    std::vector<TinyEvent> enabled;
    std::vector<Asleep> asleep;
    size_t next = 0;          // which of `enabled` is tried now
    uint64_t asked_mask = 0;  // what TinyRun::take said of that
  };
  std::string one_run(std::vector<TinyCrash>* crashes);
  std::string extend(TinyRun& run, std::vector<Asleep> asleep, std::vector<TinyCrash>* crashes);
  std::vector<Asleep> step(TinyRun& run, Place& place);
  bool choose(Place& place, size_t from) const;
  bool backtrack();

  const TinyConfig& config_;
  bool reduce_;
  TinyStart start_;
  std::string broken_;  // the array could not be made
  TinyChecker checker_;
  std::vector<Place> path_;
  Counts counts_;
};

}  // namespace bb::sim
