// SPDX-License-Identifier: Apache-2.0
#include "raid/superblock.h"

#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "hex_page.h"

namespace bb::raid {
namespace {

Superblock sample() {
  Superblock block;
  block.generation = 2;
  block.array = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
  block.member = *Uuid::parse("0c9d2a41-88b7-4e0a-b6f3-15d7e2c46a90");
  block.name = "db";
  block.slot = 1;
  block.shape = *parse_shape("10.4", 64 * KiB);
  block.member_bytes = 1022 * MiB;
  block.size_bytes = 2044 * MiB;
  block.region_size_bytes = 64 * KiB;
  block.bitmap_length_bytes = 4096;
  block.created_wall_ns = 1'700'000'000'000'000'000;
  block.version = 3;
  block.epoch = 1;
  block.members = {{.uuid = *Uuid::parse("f2a8c6e0-1b34-4c5d-8e9f-a0b1c2d3e4f5"),
                    .state = MemberState::kInSync,
                    .generation = 1},
                   {.uuid = block.member, .state = MemberState::kRecovering, .generation = 3}};
  return block;
}

using Block = std::vector<std::byte>;
Block encoded(const Superblock& block) {
  Block bytes(kSuperblockBytes);
  encode_superblock(block, bytes);
  return bytes;
}

TEST(Superblock, RoundTrip) {
  auto decoded = decode_superblock(encoded(sample()));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(*decoded, sample());
}

TEST(Superblock, TheDocumentIsTrue) {
  auto decoded = decode_superblock(hex_example("superblock.md", kSuperblockBytes));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string() << "\nthe page should show\n"
                            << hex_lines(encoded(sample()));
  EXPECT_EQ(*decoded, sample());
}

TEST(Superblock, EveryFlippedBitIsFound) {
  Block good = encoded(sample());
  for (size_t bit = 0; bit < 800 * 8; ++bit) {
    Block bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_FALSE(decode_superblock(bad).ok()) << bit;
  }
}

// What passes the checksum may still be nonsense.
TEST(Superblock, LimitsHoldBehindAValidChecksum) {
  struct Case {
    size_t at;
    uint64_t value;
    size_t length;
    const char* text;
  };
  const Case cases[] = {
      {8, 4, 4, "version 4 (this program knows 2 and 3)"},
      {56, 3, 4, "RAID level 3: there are 0, 1, 1E, 5, 6 and 10"},
      {60, 4, 4, "slot 4, and RAID 10.4 has 4"},
      {64, 97, 4, "97 members (max 96)"},
      {68, 1000, 4, "block size 1000"},
      {72, 0, 8, "array size 0"},
      {204, 65, 4, "65 members, and 3 to 64 are allowed"},
      {208, 0, 4, "0 copies in chunks of 65536 bytes"},
      {216, 4097, 8, "chunk size: 4097 bytes"},
      {224, 512, 8, "512 bytes on each member"},
      {224, uint64_t{1} << 60, 8, "bytes on each member"},
      {80, uint64_t{1} << 62, 8, "data offset"},
      {88, 100, 8, "a bitmap of"},
      {96, 8192, 8, "a bitmap of 8192 bytes"},
      {104, 1000, 8, "region size 1000"},
      {136, 65, 4, "a name of 65 bytes (max 64)"},
      {256 + 16, 9, 4, "member 0 has state 9"},
  };
  for (const Case& c : cases) {
    Block bad = encoded(sample());
    for (size_t i = 0; i < c.length; ++i) {
      bad[c.at + i] = static_cast<std::byte>((c.value >> (8 * i)) & 0xff);
    }
    for (size_t i = 12; i < 16; ++i) bad[i] = std::byte{0};
    store_le<uint32_t>(bad.data() + 12, crc32c(bad));
    auto decoded = decode_superblock(bad);
    ASSERT_FALSE(decoded.ok()) << c.text;
    EXPECT_NE(decoded.status().text().find(c.text), std::string::npos) << decoded.status().text();
  }
}

TEST(Superblock, TheNewerValidCopyCounts) {
  Superblock old_block = sample();
  Superblock new_block = sample();
  new_block.generation = 3;
  Block older = encoded(old_block), newer = encoded(new_block), torn = newer, blank(4096);
  torn[3000] ^= std::byte{1};
  using Copy = std::optional<ConstBytes>;
  struct Case {
    const char* name;
    Copy a, b;
    uint64_t generation;  // 0: none
    Code code;
  };
  const Case cases[] = {
      {"both", Copy(older), Copy(newer), 3, Code::k_ok},
      {"both, the other way", Copy(newer), Copy(older), 3, Code::k_ok},
      {"A torn", Copy(torn), Copy(older), 2, Code::k_ok},
      {"B torn", Copy(newer), Copy(torn), 3, Code::k_ok},
      {"A unreadable", std::nullopt, Copy(older), 2, Code::k_ok},
      {"B blank", Copy(older), Copy(blank), 2, Code::k_ok},
      {"blank", Copy(blank), Copy(blank), 0, Code::k_not_found},
      {"torn and blank", Copy(torn), Copy(blank), 0, Code::k_corrupt},
      {"unreadable and blank", std::nullopt, Copy(blank), 0, Code::k_io_error},
      {"unreadable", std::nullopt, std::nullopt, 0, Code::k_io_error},
  };
  for (const Case& c : cases) {
    auto chosen = choose_superblock(c.a, c.b);
    EXPECT_EQ(chosen.ok(), c.generation != 0) << c.name;
    if (chosen.ok()) {
      EXPECT_EQ(chosen->generation, c.generation) << c.name;
    } else {
      EXPECT_EQ(chosen.code(), c.code) << c.name << ": " << chosen.status().to_string();
    }
  }
}

}  // namespace
}  // namespace bb::raid
