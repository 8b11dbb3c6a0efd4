// SPDX-License-Identifier: Apache-2.0
#include "common/progress.h"

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"

namespace bb::program {
namespace {

constexpr uint64_t kBarCells = 24;
constexpr uint64_t kRedrawNs = 100 * kNsPerMs;

uint64_t now_ns() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * kNsPerSecond + static_cast<uint64_t>(ts.tv_nsec);
}

// format_size_bytes is exact; a moving figure wants three digits.
std::string rough_size(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) bytes /= 1024, ++unit;
  if (unit == 0 || bytes >= 100) return fmt::format("{:.0f}{}", bytes, kUnits[unit]);
  return fmt::format("{:.1f}{}", bytes, kUnits[unit]);
}

}  // namespace

std::string render_progress(std::string_view label, uint64_t done_bytes, uint64_t total_bytes,
                            uint64_t elapsed_ns) {
  done_bytes = std::min(done_bytes, total_bytes);
  double share =
      total_bytes == 0 ? 1.0 : static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
  auto full = static_cast<size_t>(share * static_cast<double>(kBarCells));
  std::string line = fmt::format("{}  [{}{}]  {:3.0f}%  {} of {}", label, std::string(full, '#'),
                                 std::string(kBarCells - full, '.'), share * 100,
                                 rough_size(static_cast<double>(done_bytes)),
                                 rough_size(static_cast<double>(total_bytes)));
  if (elapsed_ns == 0 || done_bytes == 0) return line;
  double rate = static_cast<double>(done_bytes) * 1e9 / static_cast<double>(elapsed_ns);
  line += fmt::format("  {}/s", rough_size(rate));
  if (done_bytes < total_bytes) {
    line += fmt::format("  {:.0f}s left", static_cast<double>(total_bytes - done_bytes) / rate);
  }
  return line;
}

ProgressBar::ProgressBar(std::string label, uint64_t total_bytes)
    : label_(std::move(label)),
      total_bytes_(total_bytes),
      start_ns_(now_ns()),
      terminal_(isatty(STDERR_FILENO) == 1) {}

void ProgressBar::update(uint64_t done_bytes) {
  uint64_t now = now_ns();
  if (!terminal_ || now - drawn_ns_ < kRedrawNs) return;
  drawn_ns_ = now;
  fmt::print(stderr, "\r\x1b[K{}",
             render_progress(label_, done_bytes, total_bytes_, now - start_ns_));
}

void ProgressBar::finish(uint64_t done_bytes) {
  fmt::print(stderr, "{}{}\n", terminal_ ? "\r\x1b[K" : "",
             render_progress(label_, done_bytes, total_bytes_, now_ns() - start_ns_));
}

}  // namespace bb::program
