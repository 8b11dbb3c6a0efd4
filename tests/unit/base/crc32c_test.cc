// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include <gtest/gtest.h>

namespace bb {
namespace {

// RFC 3720 B.4 and the common check value.
TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  std::array<std::byte, 32> zeroes{};
  EXPECT_EQ(crc32c(zeroes), 0x8a9136aau);
}

TEST(Crc32c, ContinuesOverASplitBuffer) {
  std::string_view text = "123456789";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    uint32_t first = crc32c(as_bytes(text.substr(0, cut)));
    EXPECT_EQ(crc32c(as_bytes(text.substr(cut)), first), 0xe3069283u) << cut;
  }
}

}  // namespace
}  // namespace bb
