// SPDX-License-Identifier: Apache-2.0
// What each load generator counts, and the one line of JSON it ends with.
#pragma once

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace bb::bench {

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

inline uint64_t now_ns() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(ts.tv_nsec);
}

inline double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

// Counts from a quarter of the time on: the beginning warms up.
class LoadReport {
 public:
  explicit LoadReport(double seconds) : start_ns_(now_ns()) {
    auto length_ns = static_cast<uint64_t>(seconds * 1e9);
    count_from_ns_ = start_ns_ + length_ns / 4;
    end_ns_ = start_ns_ + length_ns;
    latencies_ns_.reserve(4'000'000);
  }
  bool over() const { return over_; }
  void add(uint64_t at_ns, uint64_t latency_ns) {
    ++total_;
    if (at_ns < count_from_ns_) return;
    if (latencies_ns_.empty()) {
      first_ns_ = at_ns;
      cpu_before_ = cpu_seconds();
    }
    if (at_ns >= end_ns_) over_ = true;
    last_ns_ = at_ns;
    latencies_ns_.push_back(static_cast<uint32_t>(std::min<uint64_t>(latency_ns, UINT32_MAX)));
  }
  void print() {
    double cpu = cpu_seconds() - cpu_before_;
    size_t count = latencies_ns_.size();
    if (count < 2) die("nothing was measured");
    double seconds = static_cast<double>(last_ns_ - first_ns_) / 1e9;
    std::printf(
        "{\"iops\": %.0f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"client_cpu_us\": %.3f, "
        "\"count\": %zu, \"total\": %llu}\n",
        static_cast<double>(count - 1) / seconds, percentile(0.5), percentile(0.99),
        cpu * 1e6 / static_cast<double>(count), count, static_cast<unsigned long long>(total_));
  }

 private:
  double percentile(double share) {
    auto at = static_cast<ptrdiff_t>(share * static_cast<double>(latencies_ns_.size() - 1));
    std::nth_element(latencies_ns_.begin(), latencies_ns_.begin() + at, latencies_ns_.end());
    return static_cast<double>(latencies_ns_[static_cast<size_t>(at)]) / 1e3;
  }

  uint64_t start_ns_;
  uint64_t count_from_ns_;
  uint64_t end_ns_;
  uint64_t first_ns_ = 0;
  uint64_t last_ns_ = 0;
  uint64_t total_ = 0;  // with the warm-up
  double cpu_before_ = 0;
  bool over_ = false;
  std::vector<uint32_t> latencies_ns_;
};

}  // namespace bb::bench
