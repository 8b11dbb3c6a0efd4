// SPDX-License-Identifier: Apache-2.0
#include "raid/level.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "raid/level_table.h"

namespace bb::raid {
namespace {

constexpr std::array<const Level*, 6> kLevels = {&kRaid0,  &kRaid1, &kRaid1e,
                                                 &kRaid10, &kRaid5, &kRaid6};

// Chunks whose copies lie on the same members come again after this many.
uint64_t kinds_of_chunk(const Shape& shape) { return shape.members; }

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool all = failure == std::errc() && end == text.data() + text.size();
  return all ? std::optional(value) : std::nullopt;
}

}  // namespace

std::span<const Level* const> levels() { return kLevels; }

const Level* find_level(RaidLevel id) {
  auto found = std::ranges::find_if(kLevels, [id](const Level* one) { return one->id == id; });
  return found == kLevels.end() ? nullptr : *found;
}

std::optional<RaidLevel> level_from_name(std::string_view name) {
  if (name == "1e") name = "1E";
  for (const Level* one : kLevels) {
    if (one->name == name) return one->id;
  }
  return std::nullopt;
}

uint64_t Shape::all_slots() const {
  return members == kMembersMax ? ~uint64_t{0} : (uint64_t{1} << members) - 1;
}

uint32_t Shape::data_chunks() const { return members - level->parity; }

uint64_t Shape::chunks(uint64_t rows) const {
  return level->parity > 0 ? rows * data_chunks() : rows * members / copies;
}

uint64_t Shape::capacity_bytes(uint64_t member_bytes) const {
  return chunk_bytes == 0 ? member_bytes : chunks(member_bytes / chunk_bytes) * chunk_bytes;
}

bool Shape::redundant() const { return copies > 1 || level->parity > 0; }

bool Shape::shared_within(uint64_t slots_mask) const {
  if (level->parity > 0) return std::popcount(slots_mask) > 1;
  for (uint64_t chunk = 0; chunk < kinds_of_chunk(*this); ++chunk) {
    uint32_t there = 0;
    for (uint32_t copy = 0; copy < copies; ++copy) {
      there += (slots_mask >> level->place(*this, chunk, copy).slot & 1) != 0 ? 1 : 0;
    }
    if (there > 1) return true;
  }
  return false;
}

bool Shape::survives(uint64_t lost_mask) const {
  lost_mask &= all_slots();
  if (level->parity > 0) return std::popcount(lost_mask) <= static_cast<int>(level->parity);
  for (uint64_t chunk = 0; chunk < kinds_of_chunk(*this); ++chunk) {
    uint32_t left = 0;
    for (uint32_t copy = 0; copy < copies; ++copy) {
      uint32_t slot = level->place(*this, chunk, copy).slot;
      left += (lost_mask >> slot & 1) == 0 ? 1 : 0;
    }
    if (left == 0) return false;
  }
  return true;
}

Result<Shape> make_shape(RaidLevel id, uint32_t members, uint32_t copies, uint64_t chunk_bytes) {
  const Level* level = find_level(id);
  if (level == nullptr) {
    return error(Code::k_invalid_argument, "RAID level {}: there are 0, 1, 1E, 5, 6 and 10",
                 static_cast<uint32_t>(id));
  }
  if (members < level->members_min || members > level->members_max) {
    return error(Code::k_invalid_argument, "RAID {}: {} members, and {} to {} are allowed",
                 level->name, members, level->members_min, level->members_max);
  }
  if (id == RaidLevel::k1e && members % 2 == 0) {
    return error(Code::k_invalid_argument,
                 "RAID 1E: {} members, and it is for odd numbers; RAID 10 takes even ones",
                 members);
  }
  bool everything = level->copies_default == 0;  // each member holds all
  uint32_t usual = everything ? members : level->copies_default;
  uint32_t most = everything ? members : std::min(level->copies_max, members);
  uint32_t least = everything ? members : std::min(usual, 2u);
  if (copies == 0) copies = usual;
  if (copies < least || copies > most) {
    return error(Code::k_invalid_argument,
                 "RAID {} of {} members: {} copies, and {} to {} are allowed", level->name, members,
                 copies, least, most);
  }
  if (everything) return Shape{.level = level, .members = members, .copies = copies};
  if (chunk_bytes == 0) chunk_bytes = kChunkDefaultBytes;
  bool fits = chunk_bytes >= kChunkMinBytes && chunk_bytes <= kChunkMaxBytes;
  if (!fits || !std::has_single_bit(chunk_bytes)) {
    return error(Code::k_invalid_argument,
                 "chunk size: {} bytes, and powers of two from {} to {} are allowed", chunk_bytes,
                 kChunkMinBytes, kChunkMaxBytes);
  }
  return Shape{.level = level, .members = members, .copies = copies, .chunk_bytes = chunk_bytes};
}

Result<Shape> parse_shape(std::string_view text, uint64_t chunk_bytes) {
  auto wrong = [text] {
    return error(Code::k_invalid_argument,
                 "RAID \"{}\": LEVEL.MEMBERS[.COPIES] is wanted, such as 1.2, 5.4 or 10.6.3", text);
  };
  std::vector<std::string_view> parts;
  for (std::string_view rest = text;;) {
    size_t dot = rest.find('.');
    parts.push_back(rest.substr(0, dot));
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  if (parts.size() < 2 || parts.size() > 3) return wrong();
  std::optional<RaidLevel> level = level_from_name(parts[0]);
  std::optional<uint32_t> members = number(parts[1]);
  std::optional<uint32_t> copies = parts.size() == 3 ? number(parts[2]) : std::optional(0u);
  if (!level || !members || !copies || (parts.size() == 3 && *copies == 0)) return wrong();
  return make_shape(*level, *members, *copies, chunk_bytes);
}

std::string shape_text(const Shape& shape) {
  bool usual = shape.level->copies_default == 0 || shape.copies == shape.level->copies_default;
  std::string text = fmt::format("{}.{}", shape.level->name, shape.members);
  return usual ? text : fmt::format("{}.{}", text, shape.copies);
}

ChunkPiece first_piece(const Shape& shape, uint64_t offset_bytes, uint64_t length_bytes) {
  if (shape.chunk_bytes == 0) {
    return {.chunk = 0, .within_bytes = offset_bytes, .length_bytes = length_bytes};
  }
  uint64_t within = offset_bytes % shape.chunk_bytes;
  return {.chunk = offset_bytes / shape.chunk_bytes,
          .within_bytes = within,
          .length_bytes = std::min(length_bytes, shape.chunk_bytes - within)};
}

CopyPlace copy_place(const Shape& shape, uint64_t offset_bytes, uint32_t copy) {
  ChunkPiece piece = first_piece(shape, offset_bytes, 1);
  ChunkPlace place = shape.level->place(shape, piece.chunk, copy);
  return {.slot = place.slot, .offset_bytes = place.row * shape.chunk_bytes + piece.within_bytes};
}

}  // namespace bb::raid
