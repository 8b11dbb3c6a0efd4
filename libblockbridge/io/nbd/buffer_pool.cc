// SPDX-License-Identifier: Apache-2.0
#include "io/nbd/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/check.h"
#include "base/sanitizer.h"

namespace bb::io::nbd {

size_t BufferPool::class_of(uint32_t size_bytes) {
  uint32_t rounded = std::bit_ceil(std::max(size_bytes, kSmallest));
  auto index = static_cast<size_t>(std::countr_zero(rounded) - std::countr_zero(kSmallest));
  BB_CHECK(index < kClasses, "a request buffer of {} bytes", size_bytes);
  return index;
}

std::byte* BufferPool::take(uint32_t size_bytes) {
  size_t index = class_of(size_bytes);
  size_t size = size_t{kSmallest} << index;
  if (used_bytes_ + size > limit_bytes_) return nullptr;
  FreeBuffer* head = free_[index];
  if (head != nullptr) {
    free_[index] = head->next;
    kept_bytes_ -= size;
    used_bytes_ += size;
    return reinterpret_cast<std::byte*>(head);
  }
  void* memory = std::aligned_alloc(AlignedBuffer::kAlignmentBytes, size);
  if (memory != nullptr) used_bytes_ += size;
  return static_cast<std::byte*>(memory);
}

void BufferPool::give(std::byte* buffer, uint32_t size_bytes) {
  size_t index = class_of(size_bytes);
  size_t size = size_t{kSmallest} << index;
  used_bytes_ -= size;
  if (kSanitized || kept_bytes_ + size > keep_bytes_) {
    std::free(buffer);
    return;
  }
  auto* head = reinterpret_cast<FreeBuffer*>(buffer);
  head->next = free_[index];
  free_[index] = head;
  kept_bytes_ += size;
}

BufferPool::~BufferPool() {
  BB_CHECK(used_bytes_ == 0, "a buffer pool was destroyed with {} bytes in use", used_bytes_);
  for (FreeBuffer* head : free_) {
    while (head != nullptr) {
      FreeBuffer* next = head->next;
      std::free(head);
      head = next;
    }
  }
}

}  // namespace bb::io::nbd
