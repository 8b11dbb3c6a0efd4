// SPDX-License-Identifier: Apache-2.0
#include "raid/level.h"

#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <set>

namespace bb::raid {
namespace {

Shape shape_of(std::string_view text, uint64_t chunk_bytes = 65536) {
  Result<Shape> shape = parse_shape(text, chunk_bytes);
  EXPECT_TRUE(shape.ok()) << text << ": " << shape.status().to_string();
  return *shape;
}

// Every shape worth trying of levels with chunks.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const Level* level : levels()) {
    for (uint32_t members = 1; members <= 9; ++members) {
      for (uint32_t copies = 1; copies <= members; ++copies) {
        Result<Shape> shape = make_shape(level->id, members, copies, 65536);
        if (shape.ok()) all.push_back(*shape);
      }
    }
  }
  return all;
}

std::string name_of(const Shape& shape) { return shape_text(shape); }

TEST(Level, TextAndBack) {
  for (const char* text : {"0.1", "0.5", "1.2", "1.8", "1E.3", "1E.5", "10.4", "10.5", "10.6.3",
                           "5.3", "5.64", "6.4", "6.10"}) {
    EXPECT_EQ(shape_text(shape_of(text)), text);
  }
  EXPECT_EQ(shape_text(shape_of("1e.3")), "1E.3");
  EXPECT_EQ(shape_text(shape_of("10.4.2")), "10.4");
  EXPECT_EQ(shape_of("1.3").copies, 3u);
  EXPECT_EQ(shape_of("1.3").chunk_bytes, 0u);
  EXPECT_EQ(shape_of("5.3", 0).chunk_bytes, kChunkDefaultBytes);
}

TEST(Level, RefusalsNameTheNumberAndItsLimits) {
  struct Case {
    const char* text;
    uint64_t chunk_bytes;
    const char* says;
  };
  for (const Case& one : {
           Case{"5.2", 65536, "RAID 5: 2 members, and 3 to 64 are allowed"},
           Case{"6.3", 65536, "RAID 6: 3 members, and 4 to 64 are allowed"},
           Case{"6.65", 65536, "RAID 6: 65 members, and 4 to 64 are allowed"},
           Case{"1.9", 65536, "RAID 1: 9 members, and 2 to 8 are allowed"},
           Case{"1E.4", 65536, "RAID 1E: 4 members, and it is for odd numbers"},
           Case{"10.4.5", 65536, "RAID 10 of 4 members: 5 copies, and 2 to 4 are allowed"},
           Case{"10.4.1", 65536, "1 copies, and 2 to 4 are allowed"},
           Case{"5.4.2", 65536, "2 copies, and 1 to 1 are allowed"},
           Case{"5.4", 65537, "chunk size: 65537 bytes, and powers of two from 4096 to 16777216"},
           Case{"5.4", 2048, "chunk size: 2048 bytes"},
           Case{"5.4", 32u << 20, "chunk size: 33554432 bytes"},
           Case{"7.4", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"5", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"5.4.1.1", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"5.4x", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"5.-4", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"10.4.0", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
           Case{"", 65536, "LEVEL.MEMBERS[.COPIES] is wanted"},
       }) {
    Result<Shape> shape = parse_shape(one.text, one.chunk_bytes);
    ASSERT_FALSE(shape.ok()) << one.text;
    EXPECT_EQ(shape.code(), Code::k_invalid_argument);
    EXPECT_NE(shape.status().text().find(one.says), std::string::npos)
        << one.text << ": " << shape.status().text();
  }
  EXPECT_FALSE(make_shape(static_cast<RaidLevel>(4), 4, 0, 0).ok());
}

// Every place of every row has one owner: a copy of one chunk, or parity. None is left over, but
// for what is less than a chunk at the end.
TEST(Level, EachPlaceBelongsToOneChunkOrParity) {
  constexpr uint64_t kRows = 24;
  for (const Shape& shape : shapes()) {
    std::map<std::pair<uint32_t, uint64_t>, int> owners;
    for (uint64_t chunk = 0; chunk < shape.chunks(kRows); ++chunk) {
      std::set<uint32_t> slots;
      for (uint32_t copy = 0; copy < shape.copies; ++copy) {
        ChunkPlace at = shape.level->place(shape, chunk, copy);
        ASSERT_LT(at.slot, shape.members) << name_of(shape);
        ASSERT_LT(at.row, kRows) << name_of(shape);
        ++owners[{at.slot, at.row}];
        slots.insert(at.slot);
      }
      ASSERT_EQ(slots.size(), shape.copies) << name_of(shape) << ": copies on one member";
    }
    for (uint64_t row = 0; row < kRows; ++row) {
      for (uint32_t which = 0; which < shape.level->parity; ++which) {
        ++owners[{shape.level->parity_slot(shape, row, which), row}];
      }
    }
    for (const auto& [place, count] : owners) ASSERT_EQ(count, 1) << name_of(shape);
    uint64_t unused = kRows * shape.members - owners.size();
    ASSERT_LT(unused, shape.copies) << name_of(shape);
  }
}

// By counting, for each set of lost members: has every chunk a copy, or enough of its row?
TEST(Level, SurvivesWhatLeavesEveryChunkReadable) {
  for (const Shape& shape : shapes()) {
    for (uint64_t lost = 0; lost < (uint64_t{1} << shape.members); ++lost) {
      bool all = true;
      for (uint64_t chunk = 0; chunk < shape.chunks(2 * shape.members); ++chunk) {
        bool there = false;
        for (uint32_t copy = 0; copy < shape.copies; ++copy) {
          there |= (lost >> shape.level->place(shape, chunk, copy).slot & 1) == 0;
        }
        bool rebuilt =
            shape.level->parity > 0 && std::popcount(lost) <= static_cast<int>(shape.level->parity);
        all &= there || rebuilt;
      }
      bool more =
          shape.level->parity > 0 && std::popcount(lost) > static_cast<int>(shape.level->parity);
      ASSERT_EQ(shape.survives(lost), all && !more) << name_of(shape) << " without " << lost;
    }
  }
}

// As Linux md has it: RAID 5 of three, left-symmetric, and RAID 10 of three, near 2.
TEST(Level, KnownPlaces) {
  Shape five = shape_of("5.3");
  auto at = [](const Shape& shape, uint64_t chunk, uint32_t copy = 0) {
    ChunkPlace place = shape.level->place(shape, chunk, copy);
    return std::pair(place.slot, place.row);
  };
  EXPECT_EQ(five.level->parity_slot(five, 0, 0), 2u);
  EXPECT_EQ(at(five, 0), std::pair(0u, uint64_t{0}));
  EXPECT_EQ(at(five, 1), std::pair(1u, uint64_t{0}));
  EXPECT_EQ(five.level->parity_slot(five, 1, 0), 1u);
  EXPECT_EQ(at(five, 2), std::pair(2u, uint64_t{1}));
  EXPECT_EQ(at(five, 3), std::pair(0u, uint64_t{1}));
  Shape six = shape_of("6.4");
  EXPECT_EQ(six.level->parity_slot(six, 0, 0), 3u);
  EXPECT_EQ(six.level->parity_slot(six, 0, 1), 0u);
  EXPECT_EQ(at(six, 0), std::pair(1u, uint64_t{0}));
  Shape odd = shape_of("1E.3");
  EXPECT_EQ(at(odd, 1, 0), std::pair(2u, uint64_t{0}));
  EXPECT_EQ(at(odd, 1, 1), std::pair(0u, uint64_t{1}));
}

TEST(Level, PiecesOfARequest) {
  Shape shape = shape_of("5.3", 4096);
  ChunkPiece piece = first_piece(shape, 4096 * 7 + 512, 10'000);
  EXPECT_EQ(piece.chunk, 7u);
  EXPECT_EQ(piece.within_bytes, 512u);
  EXPECT_EQ(piece.length_bytes, 3584u);
  EXPECT_EQ(first_piece(shape, 512, 100).length_bytes, 100u);
}

}  // namespace
}  // namespace bb::raid
