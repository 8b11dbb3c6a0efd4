// SPDX-License-Identifier: Apache-2.0
#include "sim/trace.h"

namespace bb::sim {

void Trace::print(uint64_t now_ns, const char* what, uint64_t a, uint64_t b, uint64_t c) {
  fmt::print(file_, "{:>12} us  {:<22} {} {} {}\n", now_ns / 1000, what, a, b, c);
}

}  // namespace bb::sim
