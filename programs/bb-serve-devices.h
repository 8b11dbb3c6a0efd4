// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/loops.h"
#include "io/device.h"
#include "io/stats_report.h"

namespace bb::program {

// The devices of bb-serve, dealt out to its loops in turn.
class Devices {
 public:
  using Owned = std::vector<std::unique_ptr<io::Device>>;

  explicit Devices(Loops& loops) : loops_(loops), at_(loops.size()) {}

  // The n-th lives on `Loops::at(n)`.
  io::Task<Result<std::vector<io::Device*>>> open(const std::vector<std::string>* uris);
  // Those of the loop at `place`, for use on its thread alone; devices come and go there.
  Owned& at(size_t place) { return at_[place]; }
  io::Task<void> collect(io::StatsReport* into);
  io::Task<Status> close();  // all of them; the first failure

 private:
  Loops& loops_;
  std::vector<Owned> at_;
};

}  // namespace bb::program
