// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace bb::backplane {

// When arrays are scrubbed without being asked.
struct ScrubSchedule {
  uint64_t every_ns = 0;  // after the end of the latest one; 0: never by itself
  // Minutes after midnight, local time; the end is not in it. Equal: the whole day.
  uint32_t window_begin = 0, window_end = 0;
};

inline constexpr uint32_t kMinutesOfDay = 24 * 60;

// "HH:MM-HH:MM" into the schedule. INVALID_ARGUMENT otherwise.
Status parse_scrub_window(std::string_view text, ScrubSchedule* schedule);
bool in_scrub_window(const ScrubSchedule& schedule, uint32_t minute_of_day);

// What is known of an array's scrubs.
struct ScrubMoment {
  uint64_t now_wall_ns = 0;
  uint32_t minute_of_day = 0;
  uint64_t latest_end_wall_ns = 0;  // however it ended; 0: there was none
  bool running = false;
  bool interrupted = false;  // and not paused by an operator
  bool paused = false;
  bool scheduled = false;  // of what is running or interrupted
};
enum class ScrubStep : uint8_t { kNone, kStart, kResume, kSuspend };
// What to do now. An operator's scrub goes on at any time, a scheduled one in the window only. A
// latest end that lies more than a day ahead was told by a wrong clock and does not count.
ScrubStep next_scrub_step(const ScrubSchedule& schedule, const ScrubMoment& moment);

}  // namespace bb::backplane
