// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bb::program {

// `label  [########............]  40%  410MiB of 1GiB  95.3MiB/s  6s left`; pure, for tests.
std::string render_progress(std::string_view label, uint64_t done_bytes, uint64_t total_bytes,
                            uint64_t elapsed_ns);

// Redraws one line on a terminal; elsewhere prints a line at the end only, so that logs stay short.
class ProgressBar {
 public:
  ProgressBar(std::string label, uint64_t total_bytes);
  void update(uint64_t done_bytes);
  void finish(uint64_t done_bytes);

 private:
  std::string label_;
  uint64_t total_bytes_;
  uint64_t start_ns_;
  uint64_t drawn_ns_ = 0;
  bool terminal_;
};

}  // namespace bb::program
