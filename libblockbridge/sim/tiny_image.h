// SPDX-License-Identifier: Apache-2.0
// pure: what a small drive holds
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"

namespace bb::sim {

// A drive's contents as a value: a copy shares its pages until one of the two is written to, and a
// hash tells whether two drives hold the same.
class TinyImage {
 public:
  static constexpr uint64_t kSectorBytes = 512;
  static constexpr uint64_t kPageBytes = 4096;

  explicit TinyImage(uint64_t size_bytes) : pages_(size_bytes / kPageBytes) {}

  uint64_t size_bytes() const { return pages_.size() * kPageBytes; }
  void read(uint64_t offset_bytes, Bytes into) const;
  void write(uint64_t offset_bytes, ConstBytes from);
  void write_zeroes(uint64_t offset_bytes, uint64_t length_bytes);
  bool same(const TinyImage& other, uint64_t offset_bytes, uint64_t length_bytes) const;
  uint64_t hash() const { return hash_; }

 private:
  struct Page {
    std::byte bytes[kPageBytes];
  };
  void put_sector(uint64_t offset_bytes, const std::byte* from);

  std::vector<std::shared_ptr<Page>> pages_;  // null: zeroes
  uint64_t hash_ = 0;                         // the sum of its sectors'
};

uint64_t tiny_hash(uint64_t seed, ConstBytes bytes);
uint64_t tiny_mix(uint64_t seed, uint64_t value);

}  // namespace bb::sim
