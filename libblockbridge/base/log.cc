// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

namespace bb {
namespace {

// Logging is the one process-wide object: every layer speaks, and a library has one stderr.
std::atomic<LogLevel> level_now{LogLevel::kWarn};

spdlog::logger& sink() {
  static spdlog::logger* logger = [] {
    auto* made = new spdlog::logger("bb", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_level(spdlog::level::trace);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l: %v", spdlog::pattern_time_type::utc);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

}  // namespace

void set_log_level(LogLevel level) { level_now.store(level, std::memory_order_relaxed); }

bool log_enabled(LogLevel level) { return level >= level_now.load(std::memory_order_relaxed); }

void log_write(LogLevel level, std::string_view line) { sink().log(spdlog_level(level), line); }

}  // namespace bb
