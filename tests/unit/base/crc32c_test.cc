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

TEST(Crc32c, AroundItselfIsAsIfItWereZero) {
  std::vector<std::byte> block(64, std::byte{7});
  for (size_t at : {0u, 8u, 60u}) {
    std::vector<std::byte> cleared = block;
    std::fill_n(cleared.begin() + static_cast<ptrdiff_t>(at), 4, std::byte{0});
    EXPECT_EQ(crc32c_around(block, at), crc32c(cleared)) << at;
    EXPECT_EQ(crc32c_around(cleared, at), crc32c(cleared)) << at;
  }
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
