// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "sim/tiny_run.h"

namespace bb::sim {

// Crashes at a moment in every way, starts again from what is left, and looks at it.
class TinyChecker {
 public:
  struct Counts {
    uint64_t moments = 0;  // distinct: what a crash finds, and what it must bring back
    uint64_t images = 0;   // distinct ways in which that may be left, each started again
    uint64_t starts = 0;
    uint64_t bounded = 0;  // moments of which not all subsets of lost writes were tried
  };

  explicit TinyChecker(const TinyConfig& config);

  // Empty, or what is wrong after the crashes that are then in `trail`.
  std::string all_crashes(const TinyMoment& moment, std::vector<TinyCrash>* trail);
  std::string repeat(const TinyMoment& moment, std::span<const TinyCrash> crashes);
  const Counts& counts() const { return counts_; }
  // Which moments were seen: the same for two searches that have seen the same.
  uint64_t moments_hash() const { return moments_hash_; }

 private:
  // A way in which one drive may be left.
  struct Left {
    TinyImage image;
    uint64_t kept_mask = 0;
    std::optional<TinyCrash::Torn> torn;
  };
  std::string crashes_of(const TinyMoment& moment, bool power, std::vector<TinyCrash>* trail);
  std::vector<Left> lefts_of(const TinyRemains& remains, uint32_t member, bool power,
                             bool* bounded) const;
  std::string starts_of(const TinyStart& start, const TinyModel::Allowed& allowed,
                        std::vector<TinyCrash>* trail);
  // Between two steps of a start; what it returns is a violation.
  using AtStep = std::function<std::string(TinyLife& life, const TinyModel::Allowed& allowed)>;
  std::string start_again(const TinyStart& start, uint64_t without_mask, TinyModel::Allowed allowed,
                          const AtStep& at_step);
  std::string look_at(TinyLife& life, TinyModel::Allowed* allowed) const;
  std::string look_without(TinyLife& life, TinyModel::Allowed* allowed) const;
  static std::string look(TinyLife& life, TinyModel::Allowed* allowed);
  std::string copies(TinyLife& life) const;
  std::string parity(TinyLife& life, uint64_t rows) const;
  bool may_start(const raid::MembershipRecord& record, uint64_t without_mask) const;

  const TinyConfig& config_;
  raid::Shape shape_;
  bool whole_stripes_ = false;  // written: rows that nobody reads may hold anything
  std::unordered_set<uint64_t> moments_;
  std::unordered_set<uint64_t> images_;
  uint64_t moments_hash_ = 0;
  Counts counts_;
};

}  // namespace bb::sim
