// SPDX-License-Identifier: Apache-2.0
#include "sim/tiny_search.h"

#include <algorithm>

namespace bb::sim {
namespace {

constexpr uint64_t kDriveBytes = (uint64_t{2} << 20) + (uint64_t{256} << 10);

// A new array whose front holds something, closed.
std::string make_start(const TinyConfig& config, TinyStart* start) {
  raid::Shape shape = *raid::parse_shape(config.shape, kTinyChunkBytes);
  start->images.assign(shape.members, TinyImage(kDriveBytes));
  TinyLife life(config, *start);
  Status status = life.create();
  std::vector<std::byte> bytes(kTinySectors * TinyModel::kSectorBytes);
  TinyModel::fill(0, 0, bytes);
  if (status.ok()) status = life.write(0, bytes);
  if (status.ok()) status = life.close();
  for (uint32_t slot = 0; slot < shape.members; ++slot) {
    start->images[slot] = life.device(slot).image();
  }
  start->record = life.authority().record();
  return status.ok() ? "" : "the array cannot be made: " + status.to_string();
}

}  // namespace

TinySearch::TinySearch(const TinyConfig& config, bool reduce)
    : config_(config), reduce_(reduce), checker_(config) {
  broken_ = make_start(config, &start_);
}

TinyFinding TinySearch::explore(uint64_t runs_max) {
  if (!broken_.empty()) return {.violation = broken_, .choices = {}};
  do {
    TinyFinding finding;
    finding.violation = one_run(&finding.choices.crashes);
    if (!finding.violation.empty()) {
      for (const Place& place : path_) finding.choices.events.push_back(place.enabled[place.next]);
      return finding;
    }
    counts_.stopped = ++counts_.runs >= runs_max && backtrack();
    if (counts_.stopped) return {};
  } while (counts_.runs < runs_max && backtrack());
  return {};
}

// The places of the path, then on and on until nothing is left to do.
std::string TinySearch::one_run(std::vector<TinyCrash>* crashes) {
  TinyRun run(config_, start_);
  std::vector<Asleep> asleep;
  for (Place& place : path_) asleep = step(run, place);
  return extend(run, std::move(asleep), crashes);
}

std::string TinySearch::extend(TinyRun& run, std::vector<Asleep> asleep,
                               std::vector<TinyCrash>* crashes) {
  for (;;) {
    if (!run.violation().empty()) return run.violation();
    ++counts_.states;
    counts_.longest = std::max<uint64_t>(counts_.longest, path_.size());
    std::string problem = checker_.all_crashes(run.moment(), crashes);
    if (!problem.empty()) return problem;
    Place place{.enabled = run.enabled(), .asleep = std::move(asleep)};
    if (!choose(place, 0)) {
      if (!place.enabled.empty()) ++counts_.redundant;
      return {};
    }
    path_.push_back(std::move(place));
    asleep = step(run, path_.back());
  }
}

// Sleep sets (Godefroid, 1996): what was tried at a place need not be tried after an event that
// commutes with it, since both orders lead to the same state. Every state is met all the same.
std::vector<TinySearch::Asleep> TinySearch::step(TinyRun& run, Place& place) {
  const TinyEvent& event = place.enabled[place.next];
  std::vector<Asleep> asleep;
  for (const Asleep& one : place.asleep) {
    if (reduce_ && run.commute(one.event, event)) asleep.push_back(one);
  }
  place.asked_mask = run.take(event);
  // Whoever was asked for a flush in consequence answers for what is complete by then.
  std::erase_if(asleep, [&](const Asleep& one) {
    return (place.asked_mask >> one.event.who & 1) != 0 || (one.asked_mask >> event.who & 1) != 0;
  });
  return asleep;
}

bool TinySearch::choose(Place& place, size_t from) const {
  for (place.next = from; place.next < place.enabled.size(); ++place.next) {
    const TinyEvent& event = place.enabled[place.next];
    if (std::ranges::find(place.asleep, event, &Asleep::event) == place.asleep.end()) return true;
  }
  return false;
}

bool TinySearch::backtrack() {
  while (!path_.empty()) {
    Place& place = path_.back();
    place.asleep.push_back({place.enabled[place.next], place.asked_mask});
    if (choose(place, place.next + 1)) return true;
    path_.pop_back();
  }
  return false;
}

TinyFinding TinySearch::repeat(const TinyChoices& choices, std::string* story) {
  TinyFinding finding{.violation = broken_, .choices = choices};
  if (!broken_.empty()) return finding;
  TinyRun run(config_, start_);
  for (const TinyEvent& event : choices.events) {
    std::vector<TinyEvent> enabled = run.enabled();
    if (std::ranges::find(enabled, event) == enabled.end()) {
      finding.violation =
          "the choices do not fit: " + tiny_text({.events = {event}, .crashes = {}}) +
          " cannot happen then";
      return finding;
    }
    if (story != nullptr) *story += run.describe(event) + "\n";
    run.take(event);
    if (!run.violation().empty()) break;
  }
  finding.violation = run.violation();
  if (!finding.violation.empty() || choices.crashes.empty()) return finding;
  finding.violation = checker_.repeat(run.moment(), choices.crashes);
  return finding;
}

}  // namespace bb::sim
