// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bb::raid {

// How fast resync and scrub may go beside the host: as fast as leaves the latency of its requests
// near what it is without them. It is told how long requests took; now and then it lets resync rest
// for a moment, to see how long they take then.
class ResyncPace {
 public:
  // The p99 of the host may grow to so many percent of what it is alone.
  static constexpr uint64_t kTargetPercent = 150;
  static constexpr uint64_t kRestNs = 40'000'000;      // to see the host alone
  static constexpr uint64_t kWindowNs = 50'000'000;    // between two decisions
  static constexpr uint64_t kAloneNs = 2'000'000'000;  // so long is that believed
  static constexpr uint64_t kAskedNs = 2'000'000'000;  // later it begins anew
  static constexpr size_t kSamplesLeast = 32;          // fewer say nothing about a p99

  // Somebody asks for a rate: requests are to be told. Else no clock need be read for them.
  bool wants(uint64_t now_ns) const { return now_ns < asked_ns_ + kAskedNs; }
  // A request of the host's ended, that much after it came.
  void host_done(uint64_t latency_ns);
  // Bytes per second from now on, between these two; 0: none until resting_until_ns(). `least` is
  // what it gets in any case, so that it ends.
  uint64_t rate(uint64_t now_ns, uint64_t least, uint64_t limit);
  uint64_t resting_until_ns() const { return until_ns_; }

  uint64_t alone_p99_ns() const { return alone_p99_ns_; }  // 0: not known
  uint64_t beside_p99_ns() const { return beside_p99_ns_; }

 private:
  enum class Phase : uint8_t { kIdle, kRest, kRun };
  void begin(Phase phase, uint64_t now_ns, uint64_t length_ns);
  uint64_t p99();
  void decide(uint64_t least, uint64_t limit);

  Phase phase_ = Phase::kIdle;
  uint64_t until_ns_ = 0;
  uint64_t alone_until_ns_ = 0;
  uint64_t rate_ = 0;
  uint64_t alone_p99_ns_ = 0;
  uint64_t beside_p99_ns_ = 0;
  uint64_t asked_ns_ = 0;
  std::array<uint64_t, 512> samples_{};  // the latest of the phase
  size_t count_ = 0;
};

}  // namespace bb::raid
