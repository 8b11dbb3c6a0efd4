// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "io/buffer.h"

namespace bb::io::nbd {

// Page-aligned memory for the data of requests, in classes of powers of two, shared by all
// connections of a server and limited. Freed memory is kept for reuse up to a bound.
class BufferPool {
 public:
  BufferPool(uint64_t limit_bytes, uint64_t keep_bytes)
      : limit_bytes_(limit_bytes), keep_bytes_(keep_bytes) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;

  // Null when the limit is reached. Not zeroed: whoever takes it fills it before it is sent.
  std::byte* take(uint32_t size_bytes);
  void give(std::byte* buffer, uint32_t size_bytes);  // the size it was taken with
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  static constexpr uint32_t kSmallest = AlignedBuffer::kAlignmentBytes;
  static constexpr size_t kClasses = 14;  // 4 KiB … 32 MiB
  struct FreeBuffer {
    FreeBuffer* next;
  };
  static size_t class_of(uint32_t size_bytes);

  uint64_t limit_bytes_;
  uint64_t keep_bytes_;
  uint64_t used_bytes_ = 0;
  uint64_t kept_bytes_ = 0;
  std::array<FreeBuffer*, kClasses> free_{};
};

}  // namespace bb::io::nbd
