// SPDX-License-Identifier: Apache-2.0
// pure
#include "sim/tiny_event.h"

#include <fmt/format.h>

#include <charconv>

namespace bb::sim {
namespace {

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    size_t at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

template <typename T>
bool number(std::string_view text, T* into, int base = 10) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *into, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::string event_text(const TinyEvent& event) {
  char kind = static_cast<char>(event.kind);
  switch (event.kind) {
    case TinyEvent::Kind::kComplete:
      return fmt::format("{}{}.{}", kind, event.who, event.number);
    case TinyEvent::Kind::kBegin:
    case TinyEvent::Kind::kFail:
      return fmt::format("{}{}", kind, event.who);
    default:
      return std::string(1, kind);
  }
}

std::optional<TinyEvent> event_of(std::string_view text) {
  if (text.empty() || std::string_view("wcfdat").find(text[0]) == std::string_view::npos) return {};
  TinyEvent event{.kind = static_cast<TinyEvent::Kind>(text[0])};
  text.remove_prefix(1);
  auto parts = split(text, '.');
  bool has_who = event_text(event).size() > 1;
  bool completes = event.kind == TinyEvent::Kind::kComplete;
  if (!has_who) return text.empty() ? std::optional(event) : std::nullopt;
  if (parts.size() != (completes ? 2u : 1u) || !number(parts[0], &event.who)) return {};
  if (completes && !number(parts[1], &event.number)) return {};
  return event;
}

std::string crash_text(const TinyCrash& crash) {
  std::string text(1, crash.power ? 'x' : 'k');
  if (crash.after != 0) text += std::to_string(crash.after);
  for (uint64_t mask : crash.kept_masks) text += fmt::format(":{:x}", mask);
  text += crash.torn
              ? fmt::format(":{}.{}.{}", crash.torn->member, crash.torn->write, crash.torn->half)
              : std::string(":-");
  return text + fmt::format(":{:x}", crash.without_mask);
}

std::optional<TinyCrash> crash_of(std::string_view text) {
  auto parts = split(text, ':');
  if (parts.size() < 3) return {};
  TinyCrash crash{.power = text[0] == 'x'};
  if (parts[0].size() > 1 && !number(parts[0].substr(1), &crash.after)) return {};
  for (size_t i = 1; i + 2 < parts.size(); ++i) {
    if (!number(parts[i], &crash.kept_masks.emplace_back(), 16)) return {};
  }
  std::string_view torn = parts[parts.size() - 2];
  if (torn != "-") {
    auto which = split(torn, '.');
    TinyCrash::Torn found;
    bool good = which.size() == 3 && number(which[0], &found.member) &&
                number(which[1], &found.write) && number(which[2], &found.half);
    if (!good) return {};
    crash.torn = found;
  }
  if (!number(parts.back(), &crash.without_mask, 16)) return {};
  return crash;
}

}  // namespace

std::string tiny_text(const TinyChoices& choices) {
  std::string text;
  for (const TinyEvent& event : choices.events) {
    text += (text.empty() ? "" : ",") + event_text(event);
  }
  for (const TinyCrash& crash : choices.crashes) {
    text += (text.empty() ? "" : ",") + crash_text(crash);
  }
  return text;
}

std::optional<TinyChoices> tiny_choices(std::string_view text) {
  TinyChoices choices;
  for (std::string_view part : split(text, ',')) {
    if (part.empty()) return {};
    if (part[0] == 'x' || part[0] == 'k') {
      std::optional<TinyCrash> crash = crash_of(part);
      if (!crash) return {};
      choices.crashes.push_back(std::move(*crash));
      continue;
    }
    std::optional<TinyEvent> event = event_of(part);
    if (!event || !choices.crashes.empty()) return {};
    choices.events.push_back(*event);
  }
  return choices;
}

}  // namespace bb::sim
