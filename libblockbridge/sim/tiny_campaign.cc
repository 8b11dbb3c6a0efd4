// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_campaign.h"

#include <fmt/format.h>

#include <csignal>
#include <cstring>
#include <ctime>

#include "base/mutant.h"
#include "sim/tiny_search.h"

namespace bb::sim {
namespace {

double cpu_seconds() {
  timespec at{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}

bool set_mutant(const std::string& name) {
  if (name.empty()) return true;
#if defined(BB_MUTANTS) && BB_MUTANTS
  std::optional<Mutant> mutant = mutant_from_name(name);
  if (!mutant) return false;
  active_mutant = *mutant;
  return true;
#else
  return false;
#endif
}

std::string mutant_option(const TinyArguments& arguments) {
  return arguments.mutant.empty() ? "" : " --mutant " + arguments.mutant;
}

bool repeat(const TinyConfig& config, const TinyArguments& arguments) {
  std::optional<TinyChoices> choices = tiny_choices(arguments.choices);
  if (!choices) {
    fmt::print("{}: these are no choices: {}\n", config.name, arguments.choices);
    return false;
  }
  TinySearch search(config, true);
  std::string story;
  TinyFinding finding = search.repeat(*choices, &story);
  fmt::print("{}", story);
  fmt::print("{}: {}\n", config.name,
             finding.violation.empty() ? "no violation" : finding.violation);
  return finding.violation.empty();
}

bool explore(const TinyConfig& config, const TinyArguments& arguments) {
  double start = cpu_seconds();
  TinySearch search(config, !arguments.without_reduction);
  TinyFinding finding = search.explore(arguments.runs_max);
  if (!finding.violation.empty()) {
    fmt::print("{}: {}\nFAILED: bb-sim tiny --only {} --choices {}{}\n", config.name,
               finding.violation, config.name, tiny_text(finding.choices),
               mutant_option(arguments));
    return false;
  }
  const TinySearch::Counts& counts = search.counts();
  const TinyChecker::Counts& checked = search.checker().counts();
  fmt::print("{:<16} RAID {:<5} {}\n", config.name, config.shape, config.what);
  fmt::print("  {} runs ({} of them cut short as repetitions), {} states, up to {} events\n",
             counts.runs, counts.redundant, counts.states, counts.longest);
  fmt::print(
      "  {} distinct moments of a crash ({:016x}), {} images after it, {} starts, {:.1f} s\n",
      checked.moments, search.checker().moments_hash(), checked.images, checked.starts,
      cpu_seconds() - start);
  if (checked.bounded != 0) {
    fmt::print("  BOUNDED: of {} moments only subsets of the latest writes were lost\n",
               checked.bounded);
  }
  if (counts.stopped) fmt::print("  STOPPED after {} runs: not all was tried\n", counts.runs);
  std::fflush(stdout);
  return true;
}

}  // namespace

int run_tiny(const TinyArguments& arguments) {
  if (!set_mutant(arguments.mutant)) {
    fmt::print(stderr, "bb-sim: no mutant \"{}\" in this build\n", arguments.mutant);
    return 2;
  }
  bool good = true;
  bool any = false;
  double start = cpu_seconds();
  for (const TinyConfig& config : tiny_configs()) {
    bool wanted =
        arguments.only.empty() ? arguments.full || config.short_set : arguments.only == config.name;
    if (!wanted) continue;
    any = true;
    bool passed =
        arguments.choices.empty() ? explore(config, arguments) : repeat(config, arguments);
    good = good && passed;
  }
  if (!any) {
    fmt::print(stderr, "bb-sim: no configuration \"{}\"\n", arguments.only);
    return 2;
  }
  if (arguments.choices.empty()) fmt::print("{:.1f} s of CPU time\n", cpu_seconds() - start);
  return good ? 0 : 1;
}

}  // namespace bb::sim
