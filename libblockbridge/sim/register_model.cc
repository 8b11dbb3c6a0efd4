// SPDX-License-Identifier: Apache-2.0
#include "sim/register_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace bb::sim {

struct RegisterModel::History {
  std::vector<Op> ops;
  std::map<Value, size_t> writers;             // by what they write; 0 has one, too
  std::map<Value, std::vector<size_t>> reads;  // by what they found
  std::map<Value, size_t> followers;           // pairs that happened, by what they compared with
  std::vector<Chain> chains;
  size_t chained = 0;  // writers that are in a chain
};

RegisterModel::OpId RegisterModel::begin_read(uint64_t now) {
  ops_.push_back({.kind = Kind::kRead, .began = now});
  return ops_.size() - 1;
}

RegisterModel::OpId RegisterModel::begin_write(Value value, uint64_t now) {
  ops_.push_back({.kind = Kind::kWrite, .began = now, .value = value});
  return ops_.size() - 1;
}

RegisterModel::OpId RegisterModel::begin_pair(Value compared, Value value, uint64_t now) {
  ops_.push_back({.kind = Kind::kPair, .began = now, .value = value, .compared = compared});
  return ops_.size() - 1;
}

void RegisterModel::end_read(OpId read, Value found, uint64_t now) {
  ops_[read].value = found;
  end_done(read, now);
}

void RegisterModel::end_done(OpId op, uint64_t now) {
  ops_[op].end = End::kDone;
  ops_[op].ended = now;
}

void RegisterModel::end_without_effect(OpId op) { ops_[op].end = End::kNoEffect; }

void RegisterModel::end_differs(OpId pair, uint64_t now) {
  ops_[pair].end = End::kDiffers;
  ops_[pair].ended = now;
}

size_t RegisterModel::pairs_done() const {
  return static_cast<size_t>(std::count_if(ops_.begin(), ops_.end(), [](const Op& op) {
    return op.kind == Kind::kPair && op.end == End::kDone;
  }));
}

// What has an answer happened; of what has none, that of which something was seen.
std::string RegisterModel::happen(History* history) {
  auto& ops = history->ops;
  std::vector<Value> seen;
  for (size_t i = 0; i < ops.size(); ++i) {
    Op& op = ops[i];
    if (op.kind != Kind::kRead) history->writers[op.value] = i;
    op.happened = op.end == End::kDone;
    if (op.happened && op.kind == Kind::kRead) history->reads[op.value].push_back(i);
    if (op.happened && op.kind == Kind::kRead) seen.push_back(op.value);
    if (op.happened && op.kind == Kind::kPair) seen.push_back(op.compared);
  }
  while (!seen.empty()) {
    Value value = seen.back();
    seen.pop_back();
    auto writer = history->writers.find(value);
    if (writer == history->writers.end()) return fmt::format("{} was never written", value);
    Op& op = ops[writer->second];
    if (op.end == End::kNoEffect || op.end == End::kDiffers) {
      return fmt::format("{} is there, whose write was answered with an error", value);
    }
    if (op.happened) continue;
    op.happened = true;
    if (op.kind == Kind::kPair) seen.push_back(op.compared);
  }
  return {};
}

std::string RegisterModel::link(History* history) {
  for (size_t i = 0; i < history->ops.size(); ++i) {
    const Op& op = history->ops[i];
    if (op.kind != Kind::kPair || !op.happened) continue;
    auto [other, first] = history->followers.emplace(op.compared, i);
    if (first) continue;
    return fmt::format("{} and {} have both replaced {}", history->ops[other->second].value,
                       op.value, op.compared);
  }
  return {};
}

// The order within it is given; no step may be over before one ahead of it has begun.
std::string RegisterModel::add_chain(History* history, Value root) {
  Chain chain;
  uint64_t begun = 0;  // the last beginning so far
  std::string problem;
  auto step = [&](const std::vector<size_t>& at_once) {
    uint64_t before = begun;
    for (size_t i : at_once) {
      const Op& op = history->ops[i];
      if (op.ended < before) problem = fmt::format("{} is out of its order", op.value);
      begun = std::max(begun, op.began);
      chain.first_end = std::min(chain.first_end, op.ended);
    }
  };
  auto writer = history->writers.find(root);
  while (true) {
    ++history->chained;
    step({writer->second});
    step(history->reads[writer->first]);
    auto next = history->followers.find(writer->first);
    if (next == history->followers.end()) break;
    writer = history->writers.find(history->ops[next->second].value);
  }
  chain.last_begin = begun;
  history->chains.push_back(chain);
  return problem;
}

// Whoever says that something else was there: it must not have been there all the time.
std::string RegisterModel::check_differing(const History& history) {
  for (const Op& op : history.ops) {
    auto writer = history.writers.find(op.compared);
    if (op.end != End::kDiffers || writer == history.writers.end()) continue;
    if (!history.ops[writer->second].happened) continue;
    uint64_t since = history.ops[writer->second].ended;
    uint64_t until = 0;
    auto reads = history.reads.find(op.compared);
    if (reads != history.reads.end()) {
      for (size_t i : reads->second) {
        since = std::min(since, history.ops[i].ended);
        until = std::max(until, history.ops[i].began);
      }
    }
    auto follower = history.followers.find(op.compared);
    if (follower != history.followers.end()) {
      until = std::max(until, history.ops[follower->second].began);
    }
    if (since < op.began && op.ended < until) {
      return fmt::format("a pair did not find {}, which was there", op.compared);
    }
  }
  return {};
}

// Two chains are in order when not each has something that was over before something of the other
// began; and if any two are, all are.
std::string RegisterModel::check() const {
  History history{.ops = ops_};
  history.ops.push_back({.kind = Kind::kWrite, .end = End::kDone, .ended = 0});
  std::string problem = happen(&history);
  if (problem.empty()) problem = link(&history);
  size_t writers = 0;
  for (auto [value, writer] : history.writers) {
    const Op& op = history.ops[writer];
    writers += op.happened ? 1 : 0;
    if (!problem.empty() || !op.happened || op.kind == Kind::kPair) continue;
    problem = add_chain(&history, value);
  }
  if (!problem.empty()) return problem;
  if (history.chained != writers) return "pairs follow each other in a circle";
  for (const Chain& a : history.chains) {
    for (const Chain& b : history.chains) {
      if (&a == &b || a.first_end >= b.last_begin || b.first_end >= a.last_begin) continue;
      return "a write fell between what belongs together";
    }
  }
  return check_differing(history);
}

}  // namespace bb::sim
