// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "io/device.h"
#include "raid/level.h"

namespace bb::raid {

// One piece after the other of a request for a range of the array, as a request of its own. None
// crosses a multiple of `most_bytes`.
class Pieces {
 public:
  Pieces(const Shape& shape, const io::IoRequest& whole, uint64_t most_bytes = UINT64_MAX)
      : shape_(shape), whole_(whole), most_bytes_(most_bytes) {}
  Pieces(const Pieces&) = delete;
  bool next();                                   // false: there is none left
  io::IoRequest& request() { return request_; }  // until next(): its memory lies in here
  std::span<const iovec> memory() const { return memory_; }

 private:
  void take(uint64_t length_bytes);

  const Shape& shape_;
  const io::IoRequest& whole_;
  uint64_t most_bytes_;
  uint64_t done_bytes_ = 0;
  uint32_t vector_ = 0;  // the memory goes on here
  uint64_t vector_done_bytes_ = 0;
  std::vector<iovec> memory_;
  io::IoRequest request_;
};

// Does it lie in one chunk?
inline bool is_piece(const Shape& shape, const io::IoRequest& request) {
  return first_piece(shape, request.offset_bytes, request.length_bytes).length_bytes ==
         request.length_bytes;
}

}  // namespace bb::raid
