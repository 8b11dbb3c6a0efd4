// SPDX-License-Identifier: Apache-2.0
// pure: where the blocks of an array lie on its members
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace bb::raid {

inline constexpr uint32_t kMembersMax = 64;  // of one array: a bit of a mask each
inline constexpr uint32_t kParityMax = 2;
inline constexpr uint64_t kChunkMinBytes = 4096;
inline constexpr uint64_t kChunkMaxBytes = 16u << 20;
inline constexpr uint64_t kChunkDefaultBytes = 64u << 10;

// As record and superblock store them.
enum class RaidLevel : uint32_t { k0 = 0, k1 = 1, k5 = 5, k6 = 6, k10 = 10, k1e = 11 };

struct Level;

// An array's form: a level with its numbers, checked by make_shape().
struct Shape {
  const Level* level = nullptr;
  uint32_t members = 0;
  uint32_t copies = 1;       // of each block
  uint64_t chunk_bytes = 0;  // consecutive bytes on one member; 0: every member holds everything

  uint64_t all_slots() const;                            // a bit each
  uint32_t data_chunks() const;                          // of one row, of the levels with parity
  uint64_t chunks(uint64_t rows) const;                  // that so many rows of all members hold
  uint64_t capacity_bytes(uint64_t member_bytes) const;  // of an array of such members
  bool survives(uint64_t lost_mask) const;               // can all be read without these slots?
  bool redundant() const;                                // … without any one of them?
  // More than one member of `slots` holds some block: they could differ.
  bool shared_within(uint64_t slots_mask) const;
  bool operator==(const Shape&) const = default;
};

// A chunk of a member: rows count chunks from the start of its data.
struct ChunkPlace {
  uint32_t slot = 0;
  uint64_t row = 0;

  bool operator==(const ChunkPlace&) const = default;
};

// Where a copy of a byte of the array lies, in the data of a member.
struct CopyPlace {
  uint32_t slot = 0;
  uint64_t offset_bytes = 0;

  bool operator==(const CopyPlace&) const = default;
};

// One level: a row of the table in level.cc, in a file of its own. Everything else asks it and
// knows no level. The layouts are those of Linux md (near for 10 and 1E, left-symmetric for 5 and
// 6), so that its arrays can be compared with ours (tests/guest/md_layout_test.py).
struct Level {
  RaidLevel id;
  std::string_view name;  // "5", "1E"
  uint32_t members_min;
  uint32_t members_max;
  uint32_t copies_default;  // 0: as many as members
  uint32_t copies_max;
  uint32_t parity;  // chunks of parity in a row
  // Where copy `copy` of chunk `chunk` of the array lies.
  ChunkPlace (*place)(const Shape& shape, uint64_t chunk, uint32_t copy);
  // The member with parity `which` (0: P, 1: Q) of a row; only of levels with parity.
  uint32_t (*parity_slot)(const Shape& shape, uint64_t row, uint32_t which);
};

std::span<const Level* const> levels();
const Level* find_level(RaidLevel id);
std::optional<RaidLevel> level_from_name(std::string_view name);  // "10", "1E", "1e"

// `copies` 0: the level's default. INVALID_ARGUMENT names the number and its limits.
Result<Shape> make_shape(RaidLevel level, uint32_t members, uint32_t copies, uint64_t chunk_bytes);
// "5.4", "10.6.3": LEVEL.MEMBERS[.COPIES], as commands take it.
Result<Shape> parse_shape(std::string_view text, uint64_t chunk_bytes);
std::string shape_text(const Shape& shape);

// A piece of a request that lies in one chunk (in the only one there is, if every member holds
// everything).
struct ChunkPiece {
  uint64_t chunk = 0;
  uint64_t within_bytes = 0;  // where in the chunk it begins
  uint64_t length_bytes = 0;
};
// The piece of [offset, offset + length) that comes first; length > 0.
ChunkPiece first_piece(const Shape& shape, uint64_t offset_bytes, uint64_t length_bytes);
CopyPlace copy_place(const Shape& shape, uint64_t offset_bytes, uint32_t copy);

}  // namespace bb::raid
