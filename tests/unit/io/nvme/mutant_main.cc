// SPDX-License-Identifier: Apache-2.0
// The tests with one planted bug turned on (base/mutant.h): those that are named must fail, and no
// others.
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>

#include "base/mutant.h"

namespace {

std::set<std::string> failed_tests() {
  std::set<std::string> names;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int i = 0; i < all.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *all.GetTestSuite(i);
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const testing::TestInfo& test = *suite.GetTestInfo(j);
      if (test.result()->Failed()) names.insert(std::string(suite.name()) + "." + test.name());
    }
  }
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  auto mutant = argc > 2 ? bb::mutant_from_name(argv[1]) : std::nullopt;
  if (!mutant) {
    std::fprintf(stderr, "usage: %s MUTANT SUITE.TEST... [--gtest_...]\n", argv[0]);
    return 2;
  }
  bb::active_mutant = *mutant;
  (void)RUN_ALL_TESTS();
  bool as_wanted = failed_tests() == std::set<std::string>(argv + 2, argv + argc);
  std::printf("%s: %s\n", argv[1],
              as_wanted ? "seen by whom it should be" : "NOT seen as it should");
  return as_wanted ? 0 : 1;
}
