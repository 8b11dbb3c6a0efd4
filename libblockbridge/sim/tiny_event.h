// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bb::sim {

// What happens next; as text, one of `w0` (that writer's next op begins), `c2.17` (that request of
// that member completes), `f1` (the member fails), `d` (a commit is decided), `a` (and answered),
// `t` (time passes, until a timer fires).
struct TinyEvent {
  enum class Kind : char {
    kBegin = 'w',
    kComplete = 'c',
    kFail = 'f',
    kDecide = 'd',
    kAnswer = 'a',
    kTick = 't',
  };
  Kind kind = Kind::kTick;
  uint32_t who = 0;
  uint64_t number = 0;

  bool operator==(const TinyEvent&) const = default;
};

// A crash: `x` (all lose power) or `k` (only the array's process ends), of a second one how many
// steps of the start after the first come before it; then in hexadecimal and for each member the
// writes that are there, of those that need not be, a bit each; which of them is torn, as
// MEMBER.WRITE.HALF, or `-`; and who is missing at the next start.
struct TinyCrash {
  bool power = true;
  uint64_t after = 0;
  std::vector<uint64_t> kept_masks;
  struct Torn {
    uint32_t member = 0;
    uint32_t write = 0;
    uint32_t half = 0;  // 0: the first sector is there; 1: all others are
    bool operator==(const Torn&) const = default;
  };
  std::optional<Torn> torn;
  uint64_t without_mask = 0;
};

struct TinyChoices {
  std::vector<TinyEvent> events;
  std::vector<TinyCrash> crashes;
};

// "w0,c0.1,f1,x:3:0:-:2,x17:0:0:-:0"
std::string tiny_text(const TinyChoices& choices);
std::optional<TinyChoices> tiny_choices(std::string_view text);

}  // namespace bb::sim
