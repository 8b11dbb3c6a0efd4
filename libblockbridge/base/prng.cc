// SPDX-License-Identifier: Apache-2.0
#include "base/prng.h"

#include <bit>

#include "base/check.h"

namespace bb {

Prng::Prng(uint64_t seed) {
  for (uint64_t& word : state_) {  // splitmix64, as the authors of xoshiro advise
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    word = z ^ (z >> 31);
  }
}

uint64_t Prng::next() {
  uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Prng::below(uint64_t limit) {
  BB_CHECK(limit > 0, "below(0) has no answer");
  uint64_t excess = (0 - limit) % limit;  // 2^64 mod limit: numbers below it are the unfair ones
  for (;;) {
    uint64_t x = next();
    if (x >= excess) return x % limit;
  }
}

uint64_t Prng::between(uint64_t low, uint64_t high) {
  BB_CHECK(low <= high, "between({}, {})", low, high);
  if (high - low == UINT64_MAX) return next();
  return low + below(high - low + 1);
}

bool Prng::chance(uint32_t one_in) { return one_in != 0 && below(one_in) == 0; }

double Prng::real() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

void Prng::fill(Bytes bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    uint64_t word = next();
    for (size_t i = 0; i < 8 && at < bytes.size(); ++i)
      bytes[at++] = static_cast<std::byte>(word >> (8 * i));
  }
}

}  // namespace bb
