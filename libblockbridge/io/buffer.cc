// SPDX-License-Identifier: Apache-2.0
#include "io/buffer.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/units.h"

namespace bb::io {

AlignedBuffer AlignedBuffer::uncleared(size_t size_bytes) {
  size_t rounded = round_up(size_bytes == 0 ? 1 : size_bytes, kAlignmentBytes);
  void* memory = std::aligned_alloc(kAlignmentBytes, rounded);
  BB_CHECK(memory != nullptr, "out of memory for a buffer of {} bytes", rounded);
  AlignedBuffer buffer;
  buffer.size_ = size_bytes;
  buffer.memory_.reset(static_cast<std::byte*>(memory));
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size_bytes) : AlignedBuffer(uncleared(size_bytes)) {
  std::memset(memory_.get(), 0, round_up(size_bytes, kAlignmentBytes));
}

void AlignedBuffer::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

}  // namespace bb::io
