// SPDX-License-Identifier: Apache-2.0
#include "sim/campaign.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/check.h"
#include "base/mutant.h"

namespace bb::sim {
namespace {

constexpr int kCaught = 42;              // a child of canary or mutants that found something
constexpr unsigned kRunSecondsMax = 60;  // of real time; a run takes milliseconds

// What a signal handler needs to tell which run it was.
struct Now {
  CampaignKind kind;
  uint64_t seed;
  uint64_t runs;
  bool above_budget;
  bool digests;
  bool hunting;   // a failure is what is wanted
  int tell = -1;  // where a hunting process writes the seed that failed
};
Now now;

struct KindRow {
  const char* name;
  RunResult (*run)(const RunOptions& options);
};
RunResult run_multipath(const RunOptions& options) {
  RunOptions several = options;
  several.multipath = true;
  return run_session(several);
}

RunResult run_checked(const RunOptions& options) {
  RunOptions checked = options;
  checked.checked = true;
  return run_array(checked);
}

// By CampaignKind.
constexpr KindRow kKinds[] = {{"array", run_array},         {"session", run_session},
                              {"reserve", run_reserve},     {"nbd", run_nbd},
                              {"multipath", run_multipath}, {"stripes", run_stripes},
                              {"checked", run_checked}};
const KindRow& row_of(CampaignKind kind) { return kKinds[static_cast<size_t>(kind)]; }

// Which kind of run has what the mutant breaks.
[[maybe_unused]] CampaignKind kind_of(Mutant mutant) {
  bool reserves = mutant == Mutant::kReserveAnyHost || mutant == Mutant::kReserveUnsaved ||
                  mutant == Mutant::kPreemptNoWait;
  bool of_paths = mutant == Mutant::kRetryUnfenced || mutant == Mutant::kTrustReconnect ||
                  mutant == Mutant::kForgetUnsettled;
  bool of_hosts = mutant == Mutant::kFusedUnlocked || mutant == Mutant::kAbortLate;
  bool of_stripes = mutant >= Mutant::kNoJournal;  // they are the last of the table
  bool of_checks = mutant >= Mutant::kTrustBlocks && !of_stripes;
  return of_stripes  ? CampaignKind::kStripes
         : of_checks ? CampaignKind::kChecked
         : reserves  ? CampaignKind::kReserve
         : of_paths  ? CampaignKind::kMultipath
         : of_hosts  ? CampaignKind::kSession
                     : CampaignKind::kArray;
}

std::string repeat_line(const Now& run) {
  return fmt::format("bb-sim {} --seed {}{}{}", row_of(run.kind).name, run.seed,
                     run.above_budget ? " --above-budget" : "", run.digests ? "" : " --no-digests");
}

[[noreturn]] void tell_and_exit() {
  ssize_t written = write(now.tell, &now.seed, sizeof(now.seed));
  _exit(written == sizeof(now.seed) ? kCaught : 1);
}

// The code under test aborted, crashed or spins. The process is lost; formatting is still worth a
// try, because the line is all one has.
void on_signal(int number) {
  signal(SIGABRT, SIG_DFL);
  const char* what = number == SIGALRM ? "hangs" : strsignal(number);
  if (now.hunting) {
    tell_and_exit();
  }
  fmt::print("FAILED: {}: {}\n", repeat_line(now), what);
  std::fflush(stdout);
  _exit(1);
}

void catch_signals() {
  for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM}) signal(number, on_signal);
}

double cpu_seconds() {
  timespec at{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
  return static_cast<double>(at.tv_sec) + static_cast<double>(at.tv_nsec) * 1e-9;
}

RunResult run_one(const RunOptions& options) {
  alarm(kRunSecondsMax);
  RunResult result = row_of(now.kind).run(options);
  alarm(0);
  return result;
}

void print_summary(const Campaign& campaign, uint64_t runs, double seconds, const RunStats& total) {
  fmt::print("{} {} runs, seeds {} to {}, {:.1f} s of CPU time, {:.2f} ms a run: no violation\n",
             runs, row_of(campaign.kind).name, campaign.first_seed, campaign.first_seed + runs - 1,
             seconds, seconds * 1e3 / static_cast<double>(runs));
  fmt::print("  {} host operations ({} errors), {} sectors checked, {} steps\n", total.host_ops,
             total.host_errors, total.sectors_checked, total.steps);
  if (campaign.kind == CampaignKind::kArray || campaign.kind == CampaignKind::kChecked) {
    fmt::print("  {} dataplane crashes, {} takeovers, {} drive faults, {} drive power losses\n",
               total.crashes, total.takeovers, total.drive_faults, total.power_losses);
    fmt::print("  {} replacements, {} membership commits, {} fenced\n", total.replacements,
               total.commits, total.fenced);
  } else {
    fmt::print("  {} crashes, {} reconnects, {} digest errors, {} commands moved, {} held\n",
               total.crashes, total.reconnects, total.digest_errors, total.moves, total.held);
  }
  if (campaign.kind == CampaignKind::kSession) {
    fmt::print("  {} Compare and Writes, {} aborts\n", total.pairs, total.aborts);
  }
}

void set_mutant(Mutant mutant) {
#if defined(BB_MUTANTS) && BB_MUTANTS
  active_mutant = mutant;
#else
  (void)mutant;
#endif
}

// In a child process, because a mutant may take the process with it.
template <typename Body>
int in_child(Body body) {
  std::fflush(stdout);
  pid_t child = fork();
  BB_CHECK(child >= 0, "fork: {}", strerror(errno));
  if (child == 0) {
    catch_signals();
    signal(SIGPIPE, SIG_IGN);
    body();
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct Catch {
  uint64_t seed = 0;  // 0: nothing was found
  int pipe[2] = {-1, -1};
};

// Runs seed after seed until one of them fails, and says which that was; first the `known` one, if
// not 0.
Catch first_catch(uint64_t runs_max, CampaignKind kind, RunOptions options, Mutant mutant,
                  uint64_t known) {
  Catch found;
  BB_CHECK(pipe(found.pipe) == 0, "pipe: {}", strerror(errno));
  int status = in_child([&] {
    SectorStore::Pool pool;
    RunOptions one = options;
    one.pool = &pool;
    set_mutant(mutant);
    for (uint64_t run = known == 0 ? 1 : 0; run <= runs_max; ++run) {
      one.seed = run == 0 ? known : run;
      now = {.kind = kind, .seed = one.seed, .runs = run, .hunting = true, .tell = found.pipe[1]};
      RunResult result = run_one(one);
      if (result.violation.empty()) continue;
      if (getenv("BB_SIM_SHOW") != nullptr) fmt::print("    {}\n", result.violation);
      std::fflush(stdout);
      tell_and_exit();
    }
  });
  close(found.pipe[1]);
  if (status == kCaught) {
    ssize_t length = read(found.pipe[0], &found.seed, sizeof(found.seed));
    BB_CHECK(length == sizeof(found.seed), "a catch without its seed");
  } else {
    BB_CHECK(status == 0, "a hunting process ended with {}", status);
  }
  close(found.pipe[0]);
  return found;
}

// A catch counts only when the same seed passes with nothing wrong in it: otherwise what was found
// is something else.
bool passes_unharmed(CampaignKind kind, RunOptions options, uint64_t seed) {
  int status = in_child([&] {
    SectorStore::Pool pool;
    RunOptions one = options;
    one.pool = &pool;
    one.seed = seed;
    one.canary = Canary::kNone;
    set_mutant(Mutant::kNone);
    now = {.kind = kind, .seed = seed, .runs = 1, .hunting = false};
    RunResult result = run_one(one);
    if (result.violation.empty()) return;
    fmt::print("{}\n", result.violation);
    std::fflush(stdout);
    _exit(1);
  });
  return status == 0;
}

bool hunt(std::string_view name, std::string_view what, uint64_t runs_max, CampaignKind kind,
          RunOptions options, Mutant mutant, uint64_t known) {
  fmt::print("{:<24} {:<60} ", name, what);
  Catch found = first_catch(runs_max, kind, options, mutant, known);
  if (found.seed == 0) {
    fmt::print("NOT CAUGHT in {} runs\n", runs_max);
    return false;
  }
  if (!passes_unharmed(kind, options, found.seed)) {
    fmt::print("FALSE CATCH at seed {}: it fails without that too\n", found.seed);
    return false;
  }
  fmt::print("caught at seed {}, which passes without it\n", found.seed);
  return true;
}

}  // namespace

int run_campaign(const Campaign& campaign) {
  catch_signals();
  SectorStore::Pool pool;
  RunOptions options;
  options.pool = &pool;
  options.above_budget = campaign.above_budget;
  options.digests = campaign.digests;
  options.trace_to = campaign.trace ? stdout : nullptr;
  RunStats total;
  double start = cpu_seconds();
  uint64_t runs = 0;
  for (; runs < campaign.runs; ++runs) {
    if (campaign.seconds != 0 && cpu_seconds() - start >= static_cast<double>(campaign.seconds)) {
      break;
    }
    options.seed = campaign.first_seed + runs;
    now = {.kind = campaign.kind,
           .seed = options.seed,
           .runs = runs + 1,
           .above_budget = campaign.above_budget,
           .digests = campaign.digests,
           .hunting = false};
    RunResult result = run_one(options);
    if (campaign.trace_hash) {
      fmt::print("seed {} trace {:016x} events {}\n", options.seed, result.trace_hash,
                 result.events);
    }
    if (!result.violation.empty()) {
      fmt::print("{}\nFAILED: {}\n", result.violation, repeat_line(now));
      std::fflush(stdout);
      _exit(1);  // the run stands still in the middle; nothing is taken apart
    }
    total.add(result.stats);
  }
  if (runs > 0) print_summary(campaign, runs, cpu_seconds() - start, total);
  return 0;
}

int run_canaries(uint64_t runs_max, const std::string& only) {
  struct Row {
    Canary canary;
    const char* name;
    const char* what;
    CampaignKind kind = CampaignKind::kArray;
  };
  constexpr Row kRows[] = {
      {Canary::kLyingFlush, "lying-flush", "drives acknowledge a flush and do nothing"},
      {Canary::kLostWrites, "lost-writes", "drives acknowledge writes and drop them"},
      {Canary::kForgetCommit, "forget-commit", "the authority forgets a commit at a crash"},
      {Canary::kSharedExport, "shared-export", "an NBD export serves two connections at once",
       CampaignKind::kNbd},
  };
  bool all = true;
  for (const Row& row : kRows) {
    if (!only.empty() && only != row.name) continue;
    RunOptions options;
    options.canary = row.canary;
    bool caught = hunt(row.name, row.what, runs_max != 0 ? runs_max : 2000, row.kind, options,
                       Mutant::kNone, 0);
    all = all && caught;
  }
  return all ? 0 : 1;
}

int run_mutants(uint64_t runs_max, const std::string& only, const SeedsOfMutants& known) {
#if defined(BB_MUTANTS) && BB_MUTANTS
  bool all = true;
  for (const MutantRow& row : kMutants) {
    if (!only.empty() && only != row.name) continue;
    // Seeds of stripes cut one workload off in 512 places: many workloads must come.
    uint64_t runs = (runs_max != 0 ? runs_max : 20'000) *
                    (kind_of(row.mutant) == CampaignKind::kStripes ? 16 : 1);
    auto seed = known.find(row.name);
    bool caught = hunt(row.name, row.what, runs, kind_of(row.mutant), RunOptions{}, row.mutant,
                       seed == known.end() ? 0 : seed->second);
    all = all && caught;
  }
  return all ? 0 : 1;
#else
  (void)runs_max;
  (void)only;
  (void)known;
  fmt::print(stderr, "bb-sim: this build has no mutants in it: run bb-sim-mutants mutants\n");
  return 2;
#endif
}

}  // namespace bb::sim
