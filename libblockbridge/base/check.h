// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <fmt/format.h>

#include <string>

namespace bb {

// Prints the failed condition with its place and text, then aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& text);

}  // namespace bb

// A programmer error stops the program, in release builds too: going on would risk data.
#define BB_CHECK(condition, ...)                                                      \
  do {                                                                                \
    if (!(condition)) [[unlikely]]                                                    \
      ::bb::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (0)
