// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "hex_page.h"
#include "raid/journal_replay.h"
#include "raid/journal_ring.h"

namespace bb::raid {
namespace {

const Uuid kArray = *Uuid::parse("6b1f0e5c-3a52-4f7e-9d11-7c2f4a90b3d8");
const Uuid kLife = *Uuid::parse("f2a8c6e0-1b34-4c5d-8e9f-a0b1c2d3e4f5");
const Uuid kOtherLife = *Uuid::parse("0c9d2a41-88b7-4e0a-b6f3-15d7e2c46a90");

JournalPlace place_of(uint32_t slot, uint64_t offset_bytes) {
  return {.array = kArray,
          .life = kLife,
          .slot = slot,
          .ring_bytes = 64 * 1024,
          .offset_bytes = offset_bytes,
          .shape = *parse_shape("5.3", 65536),
          .rows = 100};
}

JournalHead sample_head() {
  return {.array = kArray,
          .life = kLife,
          .seq = 41,
          .first_seq = 38,
          .offset_bytes = 8192,
          .slot = 1,
          .parts = {{.write = 0,
                     .row = 17,
                     .touched_mask = 0b011,
                     .within_bytes = 4096,
                     .length_bytes = 4096,
                     .checksum = 0x1234'5678},
                    {.write = 2,
                     .row = 99,
                     .touched_mask = 0b110,
                     .within_bytes = 512,
                     .length_bytes = 1024,
                     .checksum = 0x9abc'def0}}};
}

std::vector<std::byte> encoded(const JournalHead& head) {
  std::vector<std::byte> bytes(kJournalHeadBytes);
  encode_journal_head(head, bytes);
  return bytes;
}

TEST(JournalHead, RoundTripAndTheDocumentIsTrue) {
  for (const auto& bytes : {encoded(sample_head()), hex_example("journal.md", kJournalHeadBytes)}) {
    auto head = decode_journal_head(place_of(1, 8192), bytes);
    ASSERT_TRUE(head.ok()) << head.status().to_string() << "\nthe page should show\n"
                           << hex_lines(encoded(sample_head()));
    EXPECT_EQ(*head, sample_head());
    EXPECT_EQ(head->length_bytes(), 4096u + 8192);
  }
}

TEST(JournalHead, WhatLiesThereByRightIsNotFoundAndWhatIsDamagedIsCorrupt) {
  auto code = [](const JournalPlace& place, const JournalHead& head) {
    return decode_journal_head(place, encoded(head)).code();
  };
  EXPECT_EQ(code(place_of(1, 4096), sample_head()), Code::k_not_found);  // a copy, elsewhere
  EXPECT_EQ(code(place_of(0, 8192), sample_head()), Code::k_not_found);  // another member's
  JournalHead other = sample_head();
  other.life = kOtherLife;
  EXPECT_EQ(code(place_of(1, 8192), other), Code::k_not_found);
  auto torn = encoded(sample_head());
  std::fill(torn.begin() + 512, torn.end(), std::byte{1});
  EXPECT_EQ(decode_journal_head(place_of(1, 8192), torn).code(), Code::k_corrupt);
  for (size_t bit = 0; bit < kJournalHeadBytes * 8; bit += 5) {
    auto bad = encoded(sample_head());
    bad[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    ASSERT_FALSE(decode_journal_head(place_of(1, 8192), bad).ok()) << bit;
  }
}

TEST(JournalHead, WhatCannotBeIsCorrupt) {
  auto says = [](auto change) {
    JournalHead head = sample_head();
    change(head);
    Result<JournalHead> decoded = decode_journal_head(place_of(1, 8192), encoded(head));
    EXPECT_EQ(decoded.code(), Code::k_corrupt);
    return std::string(decoded.status().text());
  };
  EXPECT_EQ(says([](JournalHead& head) { head.parts[0].row = 100; }),
            "journal: write 0: row 100 of 100");
  EXPECT_EQ(says([](JournalHead& head) { head.parts[1].within_bytes = 65536 - 512; }),
            "journal: write 2: 1024 bytes at 65024 of a chunk of 65536");
  EXPECT_EQ(says([](JournalHead& head) { head.parts[0].length_bytes = 0; }),
            "journal: write 0: 0 bytes at 4096 of a chunk of 65536");
  EXPECT_EQ(says([](JournalHead& head) { head.parts[0].touched_mask = 0b101; }),
            "journal: write 0: touches members 5, on member 1 of 3");
  EXPECT_EQ(says([](JournalHead& head) { head.parts[0].touched_mask = 0b1010; }),
            "journal: write 0: touches members a, on member 1 of 3");
  EXPECT_EQ(says([](JournalHead& head) { head.seq = head.first_seq = 0; }),
            "journal: entry 0 of 2 parts, those before 0 have ended");
  EXPECT_EQ(says([](JournalHead& head) { head.first_seq = 42; }),
            "journal: entry 41 of 2 parts, those before 42 have ended");
  EXPECT_EQ(says([](JournalHead& head) {
              head.parts[0].within_bytes = 0;
              head.parts[0].length_bytes = 65536;
            }),
            "journal: entry 41 of 73728 bytes in a ring of 65536");
}

TEST(JournalRing, ACircleThatOverwritesTheOldestFirst) {
  JournalRing ring(10 * 4096);
  EXPECT_EQ(ring.take(1, 4 * 4096), 0u);
  EXPECT_EQ(ring.take(2, 4 * 4096), 4u * 4096);
  EXPECT_EQ(ring.take(3, 4 * 4096), std::nullopt);
  ring.end_before(2);
  EXPECT_EQ(ring.take(3, 4 * 4096), 8u * 4096);  // goes on at the start
  EXPECT_EQ(ring.take(4, 4 * 4096), std::nullopt);
  ring.end_before(3);
  EXPECT_EQ(ring.take(7, 4 * 4096), 2u * 4096);
  ring.end_before(100);
  EXPECT_EQ(ring.used_bytes(), 0u);
  EXPECT_EQ(ring.take(100, 10 * 4096), 6u * 4096);
}

// Rings of three members as bytes, written as an array would.
struct Rings {
  Rings() {
    for (auto& one : bytes) one.resize(8 * 4096);
  }
  // An entry with one write of `fill`, on the members of `on_mask`, of those it touches.
  void write(uint64_t seq, uint64_t offset, uint64_t touched_mask, uint64_t on_mask, uint8_t fill) {
    for (uint32_t slot = 0; slot < 3; ++slot) {
      if ((on_mask >> slot & 1) == 0) continue;
      std::vector<std::byte> data(4096, std::byte{fill});
      JournalHead head{
          .array = kArray, .life = kLife, .seq = seq, .offset_bytes = offset, .slot = slot};
      head.parts.push_back({.write = 5,
                            .row = 9,
                            .touched_mask = touched_mask,
                            .within_bytes = 4096,
                            .length_bytes = 4096,
                            .checksum = crc32c(data)});
      encode_journal_head(head, Bytes(bytes[slot]).subspan(offset, 4096));
      std::ranges::copy(
          data, bytes[slot].begin() + static_cast<ptrdiff_t>((offset + 4096) % bytes[slot].size()));
    }
  }
  std::vector<ReplayStep> plan(uint64_t present_mask, uint64_t first_seq = 1) const {
    std::vector<std::vector<FoundEntry>> found;
    for (uint32_t slot = 0; slot < 3; ++slot) {
      found.push_back(find_entries(place_of(slot, 0), bytes[slot]));
    }
    return plan_replay(found, present_mask, first_seq);
  }
  std::vector<std::byte> bytes[3];
};

TEST(JournalReplay, DoneAgainWhenAllThatAreThereHaveItWhole) {
  Rings rings;
  rings.write(7, 0, 0b101, 0b101, 1);
  std::vector<ReplayStep> steps = rings.plan(0b111);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0], (ReplayStep{.slot = 0,
                                  .ring_offset_bytes = 4096,
                                  .row = 9,
                                  .within_bytes = 4096,
                                  .length_bytes = 4096}));
  EXPECT_EQ(steps[1].slot, 2u);
  EXPECT_EQ(rings.plan(0b110).size(), 1u);  // member 0 is away
  EXPECT_EQ(rings.plan(0b010).size(), 0u);
  EXPECT_EQ(rings.plan(0b111, 8).size(), 0u);  // it has ended
}

TEST(JournalReplay, DroppedWhenOneLacksItOrHasItTorn) {
  Rings lacks;
  lacks.write(7, 0, 0b101, 0b001, 1);
  EXPECT_EQ(lacks.plan(0b111).size(), 0u);
  EXPECT_EQ(lacks.plan(0b001).size(), 1u);  // the one that lacks it is away: either is right
  Rings torn;
  torn.write(7, 0, 0b101, 0b101, 1);
  torn.bytes[2][4096 + 700] ^= std::byte{1};
  EXPECT_EQ(torn.plan(0b111).size(), 0u);
  torn.bytes[2][4096 + 700] ^= std::byte{1};
  torn.bytes[2][0] ^= std::byte{1};
  EXPECT_EQ(torn.plan(0b111).size(), 0u);
}

TEST(JournalReplay, DroppedWhenOneOfSeveralPartsIsTorn) {
  for (size_t torn = 0; torn < 3; ++torn) {
    Rings rings;
    JournalHead head{.array = kArray, .life = kLife, .seq = 7, .slot = 0};
    for (uint32_t i = 0; i < 2; ++i) {
      std::vector<std::byte> data(512, std::byte{9});
      head.parts.push_back({.write = 1,
                            .row = 9,
                            .touched_mask = 0b001,
                            .within_bytes = i * 512,
                            .length_bytes = 512,
                            .checksum = crc32c(data)});
      std::ranges::copy(data, rings.bytes[0].begin() + 4096 + i * 512);
    }
    encode_journal_head(head, Bytes(rings.bytes[0]).first(4096));
    if (torn < 2) rings.bytes[0][4096 + torn * 512 + 100] ^= std::byte{1};
    EXPECT_EQ(rings.plan(0b111).size(), torn < 2 ? 0u : 2u) << torn;
  }
}

TEST(JournalReplay, InOrderAndAroundTheEnd) {
  Rings rings;
  rings.write(8, 7 * 4096, 0b011, 0b011, 2);  // its data are at the start
  rings.write(7, 4096, 0b011, 0b011, 1);
  std::vector<ReplayStep> steps = rings.plan(0b111);
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps[0].ring_offset_bytes, 2u * 4096);
  EXPECT_EQ(steps[2].ring_offset_bytes % (8 * 4096), 0u);
}

// A host's data may look like anything, even like a head of another time.
TEST(JournalReplay, DataAreNoHeads) {
  Rings rings;
  std::vector<std::byte> head(4096);
  JournalHead old = sample_head();
  old.life = kOtherLife;
  old.offset_bytes = 4096;
  old.slot = 0;
  encode_journal_head(old, head);
  std::ranges::copy(head, rings.bytes[0].begin() + 4096);
  EXPECT_EQ(rings.plan(0b001).size(), 0u);
}

}  // namespace
}  // namespace bb::raid
