// SPDX-License-Identifier: Apache-2.0
#include "backplane/scrub_schedule.h"

#include "base/units.h"

namespace bb::backplane {
namespace {

constexpr uint64_t kDayNs = 24 * 60 * 60 * kNsPerSecond;

// "HH:MM"; false: it is not.
bool parse_minute(std::string_view text, uint32_t* minute) {
  if (text.size() != 5 || text[2] != ':') return false;
  for (size_t i : {0u, 1u, 3u, 4u}) {
    if (text[i] < '0' || text[i] > '9') return false;
  }
  auto number = [text](size_t at) {
    return static_cast<uint32_t>((text[at] - '0') * 10 + (text[at + 1] - '0'));
  };
  *minute = number(0) * 60 + number(3);
  return number(0) < 24 && number(3) < 60;
}

bool due(const ScrubSchedule& schedule, const ScrubMoment& moment) {
  if (schedule.every_ns == 0) return false;
  uint64_t now = moment.now_wall_ns;
  uint64_t latest = moment.latest_end_wall_ns;
  if (latest > now) return latest - now > kDayNs;
  return latest == 0 || now - latest >= schedule.every_ns;
}

}  // namespace

Status parse_scrub_window(std::string_view text, ScrubSchedule* schedule) {
  bool right = text.size() == 11 && text[5] == '-' &&
               parse_minute(text.substr(0, 5), &schedule->window_begin) &&
               parse_minute(text.substr(6), &schedule->window_end);
  if (right) return {};
  return error(Code::k_invalid_argument,
               "\"{}\" is not a window such as 22:00-06:00 (00:00 to 23:59)", text.substr(0, 64));
}

bool in_scrub_window(const ScrubSchedule& schedule, uint32_t minute_of_day) {
  uint32_t begin = schedule.window_begin;
  uint32_t end = schedule.window_end;
  if (begin == end) return true;
  if (begin < end) return begin <= minute_of_day && minute_of_day < end;
  return minute_of_day >= begin || minute_of_day < end;
}

ScrubStep next_scrub_step(const ScrubSchedule& schedule, const ScrubMoment& moment) {
  bool may = in_scrub_window(schedule, moment.minute_of_day);
  if (moment.running) return moment.scheduled && !may ? ScrubStep::kSuspend : ScrubStep::kNone;
  if (moment.paused) return ScrubStep::kNone;
  if (moment.interrupted) {
    return !moment.scheduled || may ? ScrubStep::kResume : ScrubStep::kNone;
  }
  return may && due(schedule, moment) ? ScrubStep::kStart : ScrubStep::kNone;
}

}  // namespace bb::backplane
