// SPDX-License-Identifier: Apache-2.0
#include "io/buffer.h"

#include <malloc.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/sanitizer.h"
#include "base/units.h"

namespace bb::io {
namespace {

constexpr size_t kClasses = 16;           // of so many times the alignment: up to 64 KiB
constexpr size_t kKeptBytes = 256 * KiB;  // of each class

struct FreeBuffer {
  FreeBuffer* next;
};

// Free lists of small buffers, one set a thread: what was used last is in the cache, and aligned
// memory is what malloc does worst. Buffers may be freed on another thread than they came from.
struct Pool {
  std::array<FreeBuffer*, kClasses> heads{};
  std::array<size_t, kClasses> kept_bytes{};

  ~Pool() {
    for (FreeBuffer*& head : heads) {
      while (head != nullptr) {
        FreeBuffer* next = head->next;
        std::free(head);
        head = next;
      }
    }
    kept_bytes.fill(kKeptBytes);  // what comes later is simply freed
  }
};

thread_local Pool pool;

size_t rounded(size_t size_bytes) {
  return round_up(size_bytes == 0 ? 1 : size_bytes, AlignedBuffer::kAlignmentBytes);
}

std::byte* take(size_t bytes) {
  size_t index = bytes / AlignedBuffer::kAlignmentBytes - 1;
  if (!kSanitized && index < kClasses && pool.heads[index] != nullptr) {
    FreeBuffer* buffer = pool.heads[index];
    pool.heads[index] = buffer->next;
    pool.kept_bytes[index] -= bytes;
    return reinterpret_cast<std::byte*>(buffer);
  }
  void* memory = std::aligned_alloc(AlignedBuffer::kAlignmentBytes, bytes);
  BB_CHECK(memory != nullptr, "out of memory for a buffer of {} bytes", bytes);
  return static_cast<std::byte*>(memory);
}

}  // namespace

AlignedBuffer AlignedBuffer::uncleared(size_t size_bytes) {
  AlignedBuffer buffer;
  buffer.size_ = size_bytes;
  buffer.memory_.reset(take(rounded(size_bytes)));
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size_bytes) : AlignedBuffer(uncleared(size_bytes)) {
  std::memset(memory_.get(), 0, rounded(size_bytes));
}

void AlignedBuffer::Free::operator()(std::byte* memory) const noexcept {
  size_t index = malloc_usable_size(memory) / kAlignmentBytes - 1;
  size_t bytes = (index + 1) * kAlignmentBytes;
  if (kSanitized || index >= kClasses || pool.kept_bytes[index] + bytes > kKeptBytes) {
    std::free(memory);
    return;
  }
  auto* buffer = reinterpret_cast<FreeBuffer*>(memory);
  buffer->next = pool.heads[index];
  pool.heads[index] = buffer;
  pool.kept_bytes[index] += bytes;
}

}  // namespace bb::io
