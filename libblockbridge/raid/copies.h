// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <vector>

#include "io/buffer.h"
#include "raid/member.h"

namespace bb::raid {

// What one member holds of a piece of the array, and what is recorded of it.
struct CopyOfPiece {
  Member* member = nullptr;
  uint64_t place_bytes = 0;
  io::AlignedBuffer data;
  iovec memory{};
  bool read = false;     // the member could read it
  bool differs = false;  // from what was settled
  BlockSums found;
  std::vector<uint32_t> recorded;

  bool same(const CopyOfPiece& other, size_t i) const {
    return found.values()[i] == other.found.values()[i] &&
           std::memcmp(block(i).data(), other.block(i).data(), kCheckedBlockBytes) == 0;
  }
  ConstBytes block(size_t i) const {
    return data.bytes().subspan(i * kCheckedBlockBytes, kCheckedBlockBytes);
  }
};

}  // namespace bb::raid
