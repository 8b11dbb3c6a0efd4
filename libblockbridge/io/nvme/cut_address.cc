// SPDX-License-Identifier: Apache-2.0
#include "io/nvme/cut_address.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/units.h"

namespace bb::io::nvme {
namespace {

constexpr uint64_t kLowEnd = uint64_t{1} << 32;
constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kHeapGrowth = 256 * MiB;  // room that is left above, where there is so much

}  // namespace

LowMemory LowMemory::of_maps(std::string_view maps) {
  uint64_t begin = kLowEnd;
  uint64_t end = 0;
  while (!maps.empty()) {
    std::string_view line = maps.substr(0, maps.find('\n'));
    maps.remove_prefix(std::min(maps.size(), line.size() + 1));
    uint64_t from = 0;
    uint64_t to = 0;
    const char* last = line.end();
    auto dash = std::from_chars(line.begin(), last, from, 16);
    if (dash.ec != std::errc() || dash.ptr == last || from >= kLowEnd) continue;
    std::from_chars(dash.ptr + 1, last, to, 16);
    begin = std::min(begin, from);
    end = std::max(end, to);
  }
  return end == 0 ? LowMemory() : LowMemory(begin, std::min(end, kLowEnd));
}

LowMemory LowMemory::of_process() {
#if defined(__x86_64__)
  std::ifstream file("/proc/self/maps");
  std::ostringstream text;
  text << file.rdbuf();
  return of_maps(text.str());
#else
  return {};  // no other kernel has an ABI of that kind
#endif
}

uint64_t LowMemory::end() const {
  auto heap = reinterpret_cast<uint64_t>(::sbrk(0));  // no system call
  return heap < kLowEnd ? std::max(end_, heap) : end_;
}

bool LowMemory::confuses(const void* memory, size_t length_bytes) const {
  auto address = reinterpret_cast<uint64_t>(memory);
  if (end_ == 0 || address < kLowEnd) return false;  // low memory is cut to itself
  uint64_t cut = address & (kLowEnd - 1);
  return cut < end() && cut + length_bytes > begin_;
}

bool LowMemory::confuses_list(const void* list, size_t length_bytes) const {
  return reinterpret_cast<uint64_t>(list) < kLowEnd || confuses(list, length_bytes);
}

uint64_t LowMemory::place_beside(uint64_t length_bytes) const {
  uint64_t above = round_up(end(), kPageBytes);
  for (uint64_t place : {above + kHeapGrowth, above}) {
    if (place > 0 && place + length_bytes <= kLowEnd) return place;
  }
  return begin_ > length_bytes ? (begin_ - length_bytes) / kPageBytes * kPageBytes : 0;
}

DistinctMemory::DistinctMemory(const LowMemory& low, size_t length_bytes)
    : length_bytes_(round_up(std::max<size_t>(length_bytes, 1), kPageBytes)) {
  // Anywhere; then, where the cut address lies beside what is low.
  for (uint64_t turn = 0; turn < 64; ++turn) {
    uint64_t place = turn == 0 ? 0 : low.place_beside(length_bytes_);
    if (turn > 0 && place == 0) return;
    uint64_t hint = turn == 0 ? 0 : (uint64_t{0x1000} + turn) * kLowEnd + place;
    void* got = ::mmap(reinterpret_cast<void*>(hint), length_bytes_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) return;
    if (!low.confuses(got, length_bytes_)) {
      memory_ = static_cast<std::byte*>(got);
      return;
    }
    ::munmap(got, length_bytes_);
  }
}

DistinctMemory::~DistinctMemory() {
  if (memory_ != nullptr) ::munmap(memory_, length_bytes_);
}

void DistinctMemory::swap(DistinctMemory& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(length_bytes_, other.length_bytes_);
}

}  // namespace bb::io::nvme
