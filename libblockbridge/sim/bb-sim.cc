// SPDX-License-Identifier: Apache-2.0
// bb-sim: runs the real code in a simulated world. docs/SIMULATOR.md
#include <csignal>
#include <ctime>
#include <fstream>

#include "base/cli11.h"
#include "base/log.h"
#include "base/mutant.h"
#include "sim/campaign.h"
#include "sim/tiny_campaign.h"

namespace bb::sim {
namespace {

struct Arguments {
  uint64_t runs = 0;
  uint64_t seed = 0;
  uint64_t first_seed = 1;
  uint64_t seconds = 0;
  bool trace = false;
  bool trace_hash = false;
  bool verbose = false;
  bool above_budget = false;
  bool no_digests = false;
  std::string only;
  std::string known_seeds;
};

void add_run_options(CLI::App* app, Arguments& arguments) {
  app->add_option("--runs", arguments.runs, "how many runs, with one seed after the other");
  app->add_option("--seed", arguments.seed, "repeat the one run of this seed");
  app->add_option("--first-seed", arguments.first_seed, "the seed of the first run")
      ->capture_default_str();
  app->add_option("--seconds", arguments.seconds, "no new run after that much time");
  app->add_flag("--trace", arguments.trace, "print every event of the run");
  app->add_flag("--trace-hash", arguments.trace_hash, "print seed, hash and number of events");
  app->add_flag("--log", arguments.verbose, "let the code under test write its log");
}

void add_tiny_options(CLI::App* app, TinyArguments& arguments) {
  app->add_flag("--full", arguments.full, "all configurations, not only the short set");
  app->add_option("--only", arguments.only, "the configuration of this name");
  app->add_option("--choices", arguments.choices, "repeat the run that a failure printed")
      ->needs("--only");
  app->add_option("--mutant", arguments.mutant, "with this planted bug");
  app->add_option("--runs", arguments.runs_max, "the most runs of each configuration");
  app->add_flag("--all-orders", arguments.without_reduction, "of what commutes too");
}

// Lines of a mutant's name and a seed; false, with a text, when one is none.
bool read_seeds(const std::string& path, SeedsOfMutants* seeds) {
  std::ifstream file(path);
  std::string name;
  uint64_t seed = 0;
  while (file >> name) {
    if (!mutant_from_name(name) || !(file >> seed)) {
      fmt::print(stderr, "bb-sim: {}: \"{}\" is no mutant's name with a seed behind it\n", path,
                 name);
      return false;
    }
    (*seeds)[name] = seed;
  }
  return true;
}

Campaign campaign_of(const Arguments& arguments, CampaignKind kind) {
  Campaign campaign;
  campaign.kind = kind;
  campaign.first_seed = arguments.seed != 0 ? arguments.seed : arguments.first_seed;
  campaign.runs = arguments.seed != 0 ? 1 : arguments.runs;
  if (campaign.runs == 0) campaign.runs = arguments.seconds != 0 ? UINT64_MAX : 100;
  campaign.seconds = arguments.seconds;
  campaign.trace = arguments.trace;
  campaign.trace_hash = arguments.trace_hash;
  campaign.above_budget = arguments.above_budget;
  campaign.digests = !arguments.no_digests;
  return campaign;
}

int run(int argc, char** argv) {
  CLI::App app{
      "Runs arrays, sessions and reservations in a simulated world; a failure prints the line that "
      "repeats it.",
      "bb-sim"};
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* array =
      app.add_subcommand("array", "mirrored arrays: crashes, drive faults, takeovers");
  CLI::App* checked = app.add_subcommand(
      "checked", "arrays with checksums, of drives that also lose and misplace writes and rot");
  CLI::App* session = app.add_subcommand("session", "initiator and target over a bad network");
  CLI::App* reserve = app.add_subcommand("reserve", "NVMe reservations of several hosts");
  CLI::App* nbd = app.add_subcommand("nbd", "client and server of NBD over a bad network");
  CLI::App* multipath =
      app.add_subcommand("multipath", "the same by several paths, that fail one by one");
  CLI::App* stripes = app.add_subcommand(
      "stripes", "arrays with parity: crashes at every request, members lost besides");
  CLI::App* canary =
      app.add_subcommand("canary", "wrong wiring on purpose: exit 0 if all is found");
  CLI::App* mutants = app.add_subcommand("mutants", "planted bugs: exit 0 if each is found");
  for (CLI::App* sub : {array, checked, session, multipath, reserve, nbd, stripes})
    add_run_options(sub, arguments);
  for (CLI::App* sub : {canary, mutants}) {
    sub->add_option("--runs", arguments.runs, "the most runs for each");
    sub->add_option("--only", arguments.only, "the one of this name");
  }
  mutants->add_option("--known", arguments.known_seeds, "a file of seeds that found one before")
      ->check(CLI::ExistingFile);
  array->add_flag("--above-budget", arguments.above_budget,
                  "more faults than the redundancy bears: errors, never wrong data");
  for (CLI::App* sub : {session, multipath}) {
    sub->add_flag("--no-digests", arguments.no_digests, "without header and data digests");
  }
  TinyArguments tiny_arguments;
  CLI::App* tiny = app.add_subcommand(
      "tiny", "two writers, a failure and a crash on tiny arrays: all that may happen");
  add_tiny_options(tiny, tiny_arguments);
  CLI11_PARSE(app, argc, argv);

  set_log_level(arguments.verbose ? LogLevel::kDebug : LogLevel::kOff);
  if (array->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kArray));
  if (checked->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kChecked));
  if (session->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kSession));
  if (reserve->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kReserve));
  if (nbd->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kNbd));
  if (multipath->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kMultipath));
  if (stripes->parsed()) return run_campaign(campaign_of(arguments, CampaignKind::kStripes));
  if (tiny->parsed()) return run_tiny(tiny_arguments);
  if (canary->parsed()) return run_canaries(arguments.runs, arguments.only);
  SeedsOfMutants known;
  if (!arguments.known_seeds.empty() && !read_seeds(arguments.known_seeds, &known)) return 2;
  return run_mutants(arguments.runs, arguments.only, known);
}

}  // namespace
}  // namespace bb::sim

int main(int argc, char** argv) { return bb::sim::run(argc, argv); }
