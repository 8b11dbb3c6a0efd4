// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace bb {

// xoshiro256**: small, fast, the same numbers on every machine. Not for secrets.
class Prng {
 public:
  explicit Prng(uint64_t seed);

  uint64_t next();
  uint64_t below(uint64_t limit);                 // [0, limit), limit > 0, without bias
  uint64_t between(uint64_t low, uint64_t high);  // [low, high]
  bool chance(uint32_t one_in);                   // true once in `one_in` on average; 0 = never
  double real();                                  // [0, 1)
  void fill(Bytes bytes);
  Prng fork() { return Prng(next()); }  // an independent stream

 private:
  uint64_t state_[4];
};

}  // namespace bb
