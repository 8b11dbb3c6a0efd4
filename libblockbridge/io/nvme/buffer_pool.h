// SPDX-License-Identifier: Apache-2.0
// pure: memory only
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bb::io::nvme {

// Page-aligned data buffers by power of two, 4 KiB to 1 MiB and above. Made when first needed,
// reused without being cleared, and given back by trim() when nobody needed them for a while.
class BufferPool {
 public:
  static constexpr uint32_t kMinBytes = 4096;

  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;

  std::byte* take(uint32_t capacity_bytes);  // a power of two of at least kMinBytes
  void give(std::byte* buffer, uint32_t capacity_bytes);
  // Frees the buffers that lay idle ever since the last call.
  void trim();
  uint64_t idle_bytes() const { return idle_bytes_; }
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  struct SizeClass {
    std::vector<std::byte*> idle;
    size_t least_idle = 0;  // since the last trim
  };
  SizeClass& of(uint32_t capacity_bytes);

  std::array<SizeClass, 20> classes_;
  uint64_t idle_bytes_ = 0;
  uint64_t used_bytes_ = 0;
};

}  // namespace bb::io::nvme
