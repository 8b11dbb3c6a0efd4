// SPDX-License-Identifier: Apache-2.0
// usage: raid_image SHAPE CHUNK_BYTES DATA_OFFSET_BYTES ARRAY_BYTES SEED MEMBER...
//        raid_image --make SHAPE CHUNK_BYTES DATA_OFFSET_BYTES ARRAY_BYTES SEED MEMBER...
//        raid_image --pattern ARRAY_BYTES SEED FILE
// Compares the files of an array's members with what our layouts and parity say they hold when the
// array holds the pattern (raid_image.h); or writes them, or the pattern. Exit code 0; 1 when a
// member holds something else; 2 when the numbers or files cannot be.
#include "raid_image.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <span>

namespace {

using bb::raid::ChunkPlace;
using bb::raid::Shape;
using bb::raid_image::Content;

[[noreturn]] void die(int code, const std::string& text) {
  std::fprintf(stderr, "raid_image: %s\n", text.c_str());
  std::exit(code);
}

uint64_t number(std::string_view text) {
  uint64_t value = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) {
    die(2, fmt::format("\"{}\" is not a number", text));
  }
  return value;
}

struct Array {
  Shape shape;
  uint64_t offset_bytes;  // of the data on each member
  uint64_t chunks;
  uint64_t seed;
  std::vector<std::fstream> members;

  std::fstream& at(ChunkPlace place) {
    std::fstream& file = members[place.slot];
    file.seekg(static_cast<std::streamoff>(offset_bytes + place.row * shape.chunk_bytes));
    return file;
  }
  std::streamsize length() const { return static_cast<std::streamsize>(shape.chunk_bytes); }
};

// The arguments from SHAPE on.
Array open_array(std::span<char*> words, std::ios::openmode mode) {
  if (words.size() < 6) die(2, "SHAPE CHUNK OFFSET SIZE SEED MEMBER... is wanted");
  auto shape = bb::raid::parse_shape(words[0], number(words[1]));
  if (!shape.ok()) die(2, shape.status().to_string());
  if (shape->chunk_bytes == 0) die(2, fmt::format("RAID {} has no chunks", words[0]));
  std::span<char*> files = words.subspan(5);
  if (files.size() != shape->members) {
    die(2, fmt::format("{} members for RAID {}", files.size(), words[0]));
  }
  uint64_t size_bytes = number(words[3]);
  uint64_t whole_chunks = shape->level->parity > 0 ? shape->data_chunks() : 1;
  if (size_bytes % (shape->chunk_bytes * whole_chunks) != 0) {
    die(2, fmt::format("{} bytes are no whole rows of RAID {}", size_bytes, words[0]));
  }
  Array array{.shape = *shape,
              .offset_bytes = number(words[2]),
              .chunks = size_bytes / shape->chunk_bytes,
              .seed = number(words[4]),
              .members = {}};
  for (char* path : files) {
    if (!array.members.emplace_back(path, mode)) die(2, fmt::format("{}: cannot be opened", path));
  }
  return array;
}

void make(Array array) {
  bb::raid_image::each_chunk(
      array.shape, array.chunks, array.seed, [&](ChunkPlace place, const Content& content) {
        array.at(place).write(reinterpret_cast<const char*>(content.bytes), array.length());
      });
  for (std::fstream& file : array.members) {
    if (!file.flush()) die(2, "a member cannot be written");
  }
}

void compare(Array array) {
  uint64_t compared[3] = {};
  std::vector<char> found(array.shape.chunk_bytes);
  bb::raid_image::each_chunk(
      array.shape, array.chunks, array.seed, [&](ChunkPlace place, const Content& content) {
        auto where = fmt::format("member {}, row {}", place.slot, place.row);
        if (!array.at(place).read(found.data(), array.length()))
          die(1, where + ": the file is short");
        std::span wanted(reinterpret_cast<const char*>(content.bytes), found.size());
        auto different = std::ranges::mismatch(found, wanted);
        if (different.in1 != found.end()) {
          die(1, fmt::format("{}: not {}: byte {} of the chunk is {:#04x}, not {:#04x}", where,
                             content.text(), different.in1 - found.begin(),
                             static_cast<uint8_t>(*different.in1),
                             static_cast<uint8_t>(*different.in2)));
        }
        ++compared[content.kind];
      });
  fmt::print("chunks alike: {} of data, {} copies, {} of parity\n", compared[Content::kData],
             compared[Content::kCopy], compared[Content::kParity]);
}

void write_pattern(uint64_t array_bytes, uint64_t seed, const char* path) {
  if (array_bytes % sizeof(uint64_t) != 0) die(2, "the pattern consists of words of 8 bytes");
  std::vector<std::byte> bytes(array_bytes);
  bb::raid_image::fill_pattern(seed, 0, bytes.data(), bytes.size());
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(array_bytes));
  if (!file.flush()) die(2, fmt::format("{}: cannot be written", path));
}

}  // namespace

int main(int argc, char** argv) {
  std::span<char*> words(argv + 1, argv + argc);
  std::string_view option = words.empty() ? "" : words[0];
  if (option == "--pattern" && words.size() == 4) {
    write_pattern(number(words[1]), number(words[2]), words[3]);
  } else if (option == "--make") {
    make(open_array(words.subspan(1), std::ios::binary | std::ios::in | std::ios::out));
  } else {
    compare(open_array(words, std::ios::binary | std::ios::in));
  }
  return 0;
}
