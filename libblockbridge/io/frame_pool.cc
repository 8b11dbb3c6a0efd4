// SPDX-License-Identifier: Apache-2.0
#include "io/frame_pool.h"

#include <array>
#include <new>

#include "base/sanitizer.h"

namespace bb::io {
namespace {

constexpr size_t kStepBytes = 64;
constexpr size_t kClasses = 32;  // frames up to 2 KiB are pooled
constexpr size_t kKeptPerClass = 1024;

struct FreeFrame {
  FreeFrame* next;
};

struct Pool {
  std::array<FreeFrame*, kClasses> heads{};
  std::array<size_t, kClasses> counts{};

  ~Pool() {
    for (FreeFrame*& head : heads) {
      while (head != nullptr) {
        FreeFrame* next = head->next;
        ::operator delete(head);
        head = next;
      }
    }
    counts.fill(kKeptPerClass);  // frames that die after their thread's pool are simply freed
  }
};

thread_local Pool pool;

}  // namespace

void* frame_allocate(size_t size_bytes) {
  size_t index = (size_bytes + kStepBytes - 1) / kStepBytes - 1;
  if (kSanitized || index >= kClasses) return ::operator new(size_bytes);
  FreeFrame* head = pool.heads[index];
  if (head == nullptr) return ::operator new((index + 1) * kStepBytes);
  pool.heads[index] = head->next;
  --pool.counts[index];
  return head;
}

void frame_free(void* frame, size_t size_bytes) noexcept {
  size_t index = (size_bytes + kStepBytes - 1) / kStepBytes - 1;
  if (kSanitized || index >= kClasses || pool.counts[index] >= kKeptPerClass) {
    ::operator delete(frame);
    return;
  }
  auto* free_frame = static_cast<FreeFrame*>(frame);
  free_frame->next = pool.heads[index];
  pool.heads[index] = free_frame;
  ++pool.counts[index];
}

}  // namespace bb::io
