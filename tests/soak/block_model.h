// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"

namespace bb::soak {

// What the blocks of a range that one writer owns may hold. Each block written says, in all of its
// 16 byte lines, which block it is and by which write: the generation, 0 for zeroes. One answer is
// right, unless a write failed (then the block before it or the one of it) or the block was
// discarded (then what was there or zeroes), until a read has told which.
class BlockModel {
 public:
  BlockModel(uint64_t device, uint64_t first_block, uint64_t blocks, uint32_t block_bytes)
      : device_(device), first_(first_block), block_bytes_(block_bytes), may_hold_(blocks) {}

  uint64_t first_block() const { return first_; }
  uint64_t blocks() const { return may_hold_.size(); }
  uint32_t block_bytes() const { return block_bytes_; }

  void stamp(uint64_t block, uint64_t generation, Bytes into) const {
    for (size_t at = 0; at < into.size(); at += block_bytes_, ++block) {
      for (size_t line = 0; line < block_bytes_; line += 16) {
        store_le<uint64_t>(into.data() + at + line, generation == 0 ? 0 : name(block) + line);
        store_le<uint64_t>(into.data() + at + line + 8, generation);
      }
    }
  }
  // The blocks hold that generation now, or, where it is not sure, perhaps.
  void changed(uint64_t block, uint64_t count, uint64_t generation, bool sure) {
    for (uint64_t i = block; i < block + count; ++i) {
      std::vector<uint64_t>& held = may_hold_[i - first_];
      if (sure) settle(held, generation);
      if (std::find(held.begin(), held.end(), generation) == held.end()) held.push_back(generation);
    }
  }
  // Empty when it may be so.
  std::string check(uint64_t block, ConstBytes bytes) {
    std::vector<std::byte> wanted(block_bytes_);
    for (size_t at = 0; at < bytes.size(); at += block_bytes_, ++block) {
      ConstBytes got = bytes.subspan(at, block_bytes_);
      auto generation = load_le<uint64_t>(got.data() + 8);
      stamp(block, generation, wanted);
      std::vector<uint64_t>& held = may_hold_[block - first_];
      bool known = std::find(held.begin(), held.end(), generation) != held.end();
      if (!known || !std::equal(got.begin(), got.end(), wanted.begin())) {
        return fmt::format("block {} holds generation {} of block {}, of {} that may be: {}", block,
                           generation, (load_le<uint64_t>(got.data()) & 0xff'ffff'ffff'ffff) >> 16,
                           held.size(), fmt::join(held, ", "));
      }
      settle(held, generation);
    }
    return {};
  }

 private:
  // Without memory for more: what the model takes must not grow.
  static void settle(std::vector<uint64_t>& held, uint64_t generation) {
    if (held.capacity() > 1) std::vector<uint64_t>(1).swap(held);
    held.assign(1, generation);
  }
  uint64_t name(uint64_t block) const { return (device_ << 56) + (block << 16); }

  uint64_t device_;
  uint64_t first_;
  uint32_t block_bytes_;
  std::vector<std::vector<uint64_t>> may_hold_;
};

}  // namespace bb::soak
