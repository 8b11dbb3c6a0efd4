// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace bb::io::nvme {

// Linux may cut the addresses of a passthrough command to 32 bits: a kernel with the x32 ABI
// (Debian's is one) takes a thread of its own that was made while an interrupt returned for a
// caller of that ABI, and such threads do commands that had to wait, as all do while a controller
// is reset. Nothing lies at the cut address in most processes, and the command ends with EFAULT and
// goes again. In a program that is loaded at a fixed low address (Debian's Python is one) something
// may: so no command there names memory that could be taken for it (docs/decisions/012).
class LowMemory {
 public:
  LowMemory() = default;  // none
  LowMemory(uint64_t begin, uint64_t end) : begin_(begin), end_(end) {}
  static LowMemory of_maps(std::string_view maps);  // the text of /proc/self/maps
  static LowMemory of_process();

  // Whether the cut address of that memory could be other memory of this process.
  bool confuses(const void* memory, size_t length_bytes) const;
  // The same for a list of iovecs; one below 4 GiB would be read as a list of that ABI.
  bool confuses_list(const void* list, size_t length_bytes) const;
  // Where in 4 GiB so much memory is free of confusion, above what is low or below; 0: nowhere.
  uint64_t place_beside(uint64_t length_bytes) const;

 private:
  uint64_t end() const;  // the heap grows

  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

// Whole pages, zeroed, that `low` does not confuse with others.
class DistinctMemory {
 public:
  DistinctMemory() = default;
  DistinctMemory(const LowMemory& low, size_t length_bytes);  // data() is null: none to be had
  DistinctMemory(DistinctMemory&& other) noexcept { swap(other); }
  DistinctMemory& operator=(DistinctMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DistinctMemory();

  std::byte* data() const { return memory_; }
  Bytes first(size_t length_bytes) const { return {memory_, length_bytes}; }

 private:
  void swap(DistinctMemory& other) noexcept;

  std::byte* memory_ = nullptr;
  size_t length_bytes_ = 0;
};

}  // namespace bb::io::nvme
