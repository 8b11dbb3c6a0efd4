// SPDX-License-Identifier: Apache-2.0
#include "raid/pieces.h"

#include <algorithm>

namespace bb::raid {

bool Pieces::next() {
  if (done_bytes_ == whole_.length_bytes) return false;
  uint64_t at = whole_.offset_bytes + done_bytes_;
  uint64_t left = std::min(whole_.length_bytes - done_bytes_, most_bytes_ - at % most_bytes_);
  uint64_t length = first_piece(shape_, at, left).length_bytes;
  memory_.clear();
  if (whole_.iov_count > 0) take(length);
  request_.op = whole_.op;
  request_.fua = whole_.fua;
  request_.may_discard = whole_.may_discard;
  request_.offset_bytes = at;
  request_.length_bytes = length;
  request_.iov = memory_.data();
  request_.iov_count = static_cast<uint32_t>(memory_.size());
  done_bytes_ += length;
  return true;
}

void Pieces::take(uint64_t length_bytes) {
  while (length_bytes > 0) {
    const iovec& from = whole_.iov[vector_];
    uint64_t here = std::min<uint64_t>(length_bytes, from.iov_len - vector_done_bytes_);
    if (here > 0) {
      auto* base = static_cast<std::byte*>(from.iov_base) + vector_done_bytes_;
      memory_.push_back({.iov_base = base, .iov_len = here});
    }
    length_bytes -= here;
    vector_done_bytes_ += here;
    if (vector_done_bytes_ == from.iov_len) {
      ++vector_;
      vector_done_bytes_ = 0;
    }
  }
}

}  // namespace bb::raid
