// SPDX-License-Identifier: Apache-2.0
#include "io/tls_hello.h"

#include <gtest/gtest.h>

namespace bb::io {
namespace {

using namespace std::string_literals;

std::string identity(const std::string& text) {
  return std::string(1, static_cast<char>(text.size() >> 8)) + static_cast<char>(text.size()) +
         text + "\x01\x02\x03\x04";
}

std::string listed(const std::string& identities, size_t claimed) {
  return std::string(1, static_cast<char>(claimed >> 8)) + static_cast<char>(claimed) + identities +
         "\0\x21\x20"
         "x"s;
}

std::string listed(const std::string& identities) { return listed(identities, identities.size()); }

TEST(TlsHello, NamesWhatIsOffered) {
  std::string many;
  for (size_t i = 0; i < 2 * kOfferedIdentitiesMax; ++i) many += identity("n" + std::to_string(i));
  struct Case {
    const char* name;
    std::string extension;
    std::vector<std::string> expected;
  };
  const Case cases[] = {
      {"nothing", "", {}},
      {"half a length", "\0"s, {}},
      {"none", listed(""), {}},
      {"one", listed(identity("one")), {"one"}},
      {"two", listed(identity("one") + identity("the second")), {"one", "the second"}},
      {"a long one", listed(identity(std::string(300, 'x'))), {std::string(300, 'x')}},
      {"an empty one ends it", listed(identity("one") + identity("") + identity("two")), {"one"}},
      {"without its age", listed("\0\3one"s), {}},
      {"longer than the list", listed("\0\x7fone\1\2\3\4"s), {}},
      {"a list longer than the extension", "\x7f\xff"s + identity("one"), {"one"}},
  };
  for (const Case& c : cases) {
    std::vector<std::string> got;
    for (std::string_view each : offered_identities(as_bytes(c.extension))) got.emplace_back(each);
    EXPECT_EQ(got, c.expected) << c.name;
  }
  EXPECT_EQ(offered_identities(as_bytes(listed(many))).size(), kOfferedIdentitiesMax);
}

}  // namespace
}  // namespace bb::io
