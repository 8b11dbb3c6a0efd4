// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace bb {

void check_failed(const char* file, int line, const char* condition, const std::string& text) {
  fmt::print(stderr, "{}:{}: check failed: {}: {}\n", file, line, condition, text);
  std::fflush(stderr);
  std::abort();
}

}  // namespace bb
