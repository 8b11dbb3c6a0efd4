// SPDX-License-Identifier: Apache-2.0
// What an array holds, as its host knows it.
#pragma once

#include "array_world.h"
#include "base/prng.h"

namespace bb::raid {
namespace {

// What was written, compared with what is read and with what lies on the drives.
struct Content {
  World& world;
  std::vector<std::byte> expected;  // its beginning
  Prng prng{11};

  explicit Content(World& w)
      : world(w), expected(std::min<uint64_t>(w.array->info().size_bytes, 2 * MiB)) {}
  Status write(uint64_t offset, uint64_t length) {
    Bytes part = Bytes(expected).subspan(offset, length);
    prng.fill(part);
    std::vector<std::byte> data(part.begin(), part.end());
    return world.run(World::write_task(world.array.get(), offset, &data, false));
  }
  void write_many(int count) {
    for (int i = 0; i < count; ++i) {
      uint64_t length = 512 * prng.between(1, prng.chance(2) ? 16 : 300);
      uint64_t offset = 512 * prng.below((expected.size() - length) / 512);
      Status status = write(offset, length);
      ASSERT_TRUE(status.ok()) << status.to_string();
    }
  }
  void expect_reads(const std::string& when) {
    for (uint64_t at = 0; at < expected.size();) {
      uint64_t length = std::min<uint64_t>(512 * prng.between(1, 800), expected.size() - at);
      std::vector<std::byte> data(length);
      Status status = world.run(World::read_task(world.array.get(), at, &data));
      ASSERT_TRUE(status.ok()) << when << ": " << status.to_string();
      ASSERT_TRUE(std::ranges::equal(data, ConstBytes(expected).subspan(at, length)))
          << when << ": at " << at;
      at += length;
    }
  }
  void expect_on_drives(const std::string& when) {
    for (uint64_t at = 0; at < expected.size(); at += 512) {
      for (uint32_t copy = 0; copy < world.shape.copies; ++copy) {
        CopyPlace place = copy_place(world.shape, at, copy);
        ConstBytes seen = ConstBytes(world.drives[place.slot]->seen())
                              .subspan(kDataOffsetBytes + place.offset_bytes, 512);
        ASSERT_TRUE(std::ranges::equal(seen, ConstBytes(expected).subspan(at, 512)))
            << when << ": byte " << at << " on drive " << place.slot;
      }
    }
  }
};

}  // namespace
}  // namespace bb::raid
