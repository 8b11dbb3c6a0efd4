// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "base/cli11.h"
#include "common/control.h"

namespace bb::program {

// `bb io`: what the I/O of a daemon is like, asked over its control socket.
class IoCommand {
 public:
  void add_to(CLI::App& app);
  // Runs what was asked for; nothing when it was another command. `control`: the root's options.
  std::optional<int> run(const ControlOptions& control) const;

 private:
  int top(const ControlOptions& control) const;
  int slow(const ControlOptions& control) const;
  int metrics(const ControlOptions& control) const;

  CLI::App* io_ = nullptr;
  CLI::App* slow_ = nullptr;
  CLI::App* metrics_ = nullptr;
  uint32_t interval_s_ = 1;
  bool once_ = false;
  bool connections_ = false;
};

}  // namespace bb::program
