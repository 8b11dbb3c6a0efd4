// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "base/bytes.h"

namespace bb::fuzz {

// Reads an input from the front; behind its end everything is zero.
class Input {
 public:
  explicit Input(ConstBytes bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t byte() { return static_cast<uint8_t>(take(1)); }
  uint32_t take(size_t count) {
    uint32_t value = 0;
    size_t there = std::min(count, bytes_.size());
    for (size_t i = 0; i < there; ++i) value |= static_cast<uint32_t>(bytes_[i]) << (8 * i);
    bytes_ = bytes_.subspan(there);
    return value;
  }
  ConstBytes raw(size_t length) {
    ConstBytes part = bytes_.first(std::min(length, bytes_.size()));
    bytes_ = bytes_.subspan(part.size());
    return part;
  }

 private:
  ConstBytes bytes_;
};

}  // namespace bb::fuzz
