// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace bb::sim {

// How a member fails.
enum class TinyTrouble : uint8_t {
  kNone,
  kGone,    // the connection is lost: UNAVAILABLE
  kBroken,  // every request fails: IO_ERROR
};

// What one of the two writers does next, once it has the answer to what it did before.
struct TinyOp {
  uint64_t first_sector = 0;
  uint64_t sectors = 1;  // 0: it is a flush
  bool fua = true;
};

// An array so small, and so little to do, that all that may happen can be gone through.
struct TinyConfig {
  std::string_view name;
  std::string_view shape;  // "5.3"
  std::string_view what;
  std::span<const TinyOp> writers[2];
  TinyTrouble failure = TinyTrouble::kGone;  // of one member, at any moment
  uint32_t ticks = 0;                        // how often that much time may pass at any moment
  uint64_t clean_after_ns = 0;               // 0: no dirty bit is cleared
  bool torn = false;                         // one write of a crash may be there in part
  bool crash_again = false;                  // at each step of the start after the first crash
  bool short_set = false;
};

inline constexpr uint64_t kTinyChunkBytes = 4096;
inline constexpr uint64_t kTinySectors = 32;  // of the array's front: looked at, more or less used

std::span<const TinyConfig> tiny_configs();

}  // namespace bb::sim
