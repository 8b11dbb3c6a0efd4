// SPDX-License-Identifier: Apache-2.0
#include "backplane/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace bb::backplane {
namespace {

TEST(Nearest, Word) {
  constexpr std::array<std::string_view, 4> known = {"name", "domain", "listen", "control"};
  struct Case {
    std::string_view word, nearest;
  };
  for (Case one : {Case{"nmae", "name"}, Case{"domian", "domain"}, Case{"lisen", "listen"},
                   Case{"controls", "control"}, Case{"xyz", ""}, Case{"", ""}})
    EXPECT_EQ(nearest_word(one.word, known), one.nearest) << one.word;
  EXPECT_EQ(unknown_word("key", "nmae", known), "unknown key \"nmae\"; did you mean \"name\"?");
  EXPECT_EQ(unknown_word("key", "xyz", known),
            "unknown key \"xyz\"; there are name, domain, listen, control");
}

}  // namespace
}  // namespace bb::backplane
