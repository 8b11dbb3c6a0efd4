// SPDX-License-Identifier: Apache-2.0
// The tests with one planted bug turned on (base/mutant.h): they must fail.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/mutant.h"

int main(int argc, char** argv) {
  auto mutant = argc > 1 ? bb::mutant_from_name(argv[1]) : std::nullopt;
  if (!mutant) {
    std::fprintf(stderr, "usage: %s MUTANT [--gtest_...]\n", argv[0]);
    return 0;  // which is not the failure that is expected
  }
  bb::active_mutant = *mutant;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
