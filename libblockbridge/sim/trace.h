// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>

namespace bb::sim {

// What happened in a run, as a running FNV-1a hash: the same seed gives the same hash in every
// build. With a file the events are printed too. Only integers go in: a float or a pointer could
// differ between builds.
class Trace {
 public:
  uint64_t hash() const { return hash_; }
  uint64_t events() const { return events_; }
  void print_to(std::FILE* file) { file_ = file; }

  // `what` is a literal; its letters are part of the hash.
  void event(uint64_t now_ns, const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0) {
    ++events_;
    for (const char* at = what; *at != '\0'; ++at) mix_byte(static_cast<uint8_t>(*at));
    mix(now_ns);
    mix(a);
    mix(b);
    mix(c);
    if (file_ != nullptr) print(now_ns, what, a, b, c);
  }

 private:
  void mix_byte(uint8_t byte) { hash_ = (hash_ ^ byte) * 0x100000001b3; }
  void mix(uint64_t word) {
    hash_ = (hash_ ^ word) * 0x100000001b3;
    hash_ ^= hash_ >> 29;
  }
  void print(uint64_t now_ns, const char* what, uint64_t a, uint64_t b, uint64_t c);

  uint64_t hash_ = 0xcbf29ce484222325;
  uint64_t events_ = 0;
  std::FILE* file_ = nullptr;
};

}  // namespace bb::sim
