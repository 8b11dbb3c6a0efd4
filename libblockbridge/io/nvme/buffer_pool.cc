// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "base/check.h"
#include "base/sanitizer.h"

namespace bb::io::nvme {

BufferPool::~BufferPool() {
  BB_CHECK(used_bytes_ == 0, "a buffer pool ends with {} bytes in use", used_bytes_);
  trim();
  trim();
}

BufferPool::SizeClass& BufferPool::of(uint32_t capacity_bytes) {
  BB_CHECK(capacity_bytes >= kMinBytes && std::has_single_bit(capacity_bytes),
           "a buffer of {} bytes", capacity_bytes);
  return classes_[static_cast<size_t>(std::countr_zero(capacity_bytes / kMinBytes))];
}

std::byte* BufferPool::take(uint32_t capacity_bytes) {
  SizeClass& pool = of(capacity_bytes);
  used_bytes_ += capacity_bytes;
  if (pool.idle.empty()) {
    pool.least_idle = 0;
    void* memory = std::aligned_alloc(kMinBytes, capacity_bytes);
    BB_CHECK(memory != nullptr, "out of memory for a buffer of {} bytes", capacity_bytes);
    return static_cast<std::byte*>(memory);
  }
  std::byte* buffer = pool.idle.back();
  pool.idle.pop_back();
  pool.least_idle = std::min(pool.least_idle, pool.idle.size());
  idle_bytes_ -= capacity_bytes;
  return buffer;
}

void BufferPool::give(std::byte* buffer, uint32_t capacity_bytes) {
  used_bytes_ -= capacity_bytes;
  if (kSanitized) return std::free(buffer);
  of(capacity_bytes).idle.push_back(buffer);
  idle_bytes_ += capacity_bytes;
}

void BufferPool::trim() {
  uint64_t capacity_bytes = kMinBytes;
  for (SizeClass& pool : classes_) {
    for (; pool.least_idle > 0; --pool.least_idle) {
      std::free(pool.idle.back());
      pool.idle.pop_back();
      idle_bytes_ -= capacity_bytes;
    }
    pool.least_idle = pool.idle.size();
    capacity_bytes *= 2;
  }
}

}  // namespace bb::io::nvme
