// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "sim/tiny_event.h"
#include "sim/tiny_life.h"
#include "sim/tiny_model.h"

namespace bb::sim {

// What a crash finds.
struct TinyMoment {
  std::vector<TinyRemains> drives;
  raid::MembershipRecord record;
  TinyModel::Allowed allowed[2];  // 1: when what is not flushed is lost
};

// One way that things may go: the real array with two writers, from a clean start, event by event.
class TinyRun {
 public:
  TinyRun(const TinyConfig& config, const TinyStart& start);
  ~TinyRun();
  TinyRun(const TinyRun&) = delete;

  // What may happen now. Empty: all is done.
  std::vector<TinyEvent> enabled();
  // What is ready by then has run when it returns. The members (a bit each) that were asked
  // something whose answer depends on what else is complete there.
  uint64_t take(const TinyEvent& event);
  // Both may happen now, and in either order all is the same afterwards.
  bool commute(const TinyEvent& a, const TinyEvent& b);
  // An event in words.
  std::string describe(const TinyEvent& event);
  TinyMoment moment();
  const std::string& violation() const { return violation_; }

 private:
  struct HostOp : io::IoRequest {
    TinyRun* run = nullptr;
    uint32_t writer = 0;
    uint32_t number = 0;  // in the model
    std::vector<std::byte> memory;
    iovec vector{};
  };
  void begin(uint32_t writer);
  void ended(HostOp& op, const Status& status);
  void fail(std::string why);
  bool may_fail(size_t slot);
  bool working() const;
  const void* group(const io::IoRequest& request) const;
  bool silent(const TinyEvent& event);

  const TinyConfig& config_;
  TinyLife life_;
  TinyModel model_;
  std::deque<HostOp> ops_;
  size_t begun_[2] = {0, 0};
  size_t done_[2] = {0, 0};
  uint32_t ticks_ = 0;
  bool failed_ = false;
  bool crashed_ = false;
  std::string violation_;
};

}  // namespace bb::sim
