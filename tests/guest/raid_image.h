// SPDX-License-Identifier: Apache-2.0
// What level.h and parity.h say the members of an array hold that holds a pattern.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "io/buffer.h"
#include "raid/level.h"
#include "raid/parity.h"

namespace bb::raid_image {

// An 8-byte word of the pattern, little-endian: what SplitMix64 gives as number `word` when it
// starts at `seed`.
inline uint64_t pattern_word(uint64_t seed, uint64_t word) {
  uint64_t mixed = seed + (word + 1) * 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return mixed ^ mixed >> 31;
}

inline void fill_pattern(uint64_t seed, uint64_t offset_bytes, std::byte* into, size_t bytes) {
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
    uint64_t word = pattern_word(seed, (offset_bytes + at) / sizeof(uint64_t));
    std::memcpy(into + at, &word, sizeof word);
  }
}

// What lies in a chunk of a member.
struct Content {
  enum Kind : uint8_t { kData, kCopy, kParity } kind;
  uint64_t number;  // of the data chunk; which parity
  const std::byte* bytes;

  std::string text() const {
    if (kind == kParity) return number == 0 ? "P" : "Q";
    return fmt::format("{}data chunk {}", kind == kCopy ? "a copy of " : "", number);
  }
};

// Calls visit(place, content) for all that the members hold of the array's first `chunks`.
template <class Visit>
void each_chunk(const raid::Shape& shape, uint64_t chunks, uint64_t seed, Visit visit) {
  uint32_t data = shape.data_chunks();
  uint32_t parity = shape.level->parity;
  io::AlignedBuffer memory((data + parity) * shape.chunk_bytes);
  std::vector<std::byte*> blocks(data + parity);  // of a row
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = memory.data() + i * shape.chunk_bytes;
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
    std::byte* bytes = blocks[chunk % data];
    fill_pattern(seed, chunk * shape.chunk_bytes, bytes, shape.chunk_bytes);
    for (uint32_t copy = 0; copy < shape.copies; ++copy) {
      Content content{copy == 0 ? Content::kData : Content::kCopy, chunk, bytes};
      visit(shape.level->place(shape, chunk, copy), content);
    }
    if (parity == 0 || chunk % data != data - 1) continue;
    raid::ParityCode(data, parity).encode(blocks.data(), blocks.data() + data, shape.chunk_bytes);
    uint64_t row = chunk / data;
    for (uint32_t which = 0; which < parity; ++which) {
      Content content{Content::kParity, which, blocks[data + which]};
      visit(raid::ChunkPlace{shape.level->parity_slot(shape, row, which), row}, content);
    }
  }
}

}  // namespace bb::raid_image
