// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace bb {

// A device's name: `scheme:rest?key=value&key=value`, the same in C, C++, Python, CLI and config.
// `rest` keeps its slashes; a value may hold %XX escapes. `?` inside a nested URI is written %3F.
struct Uri {
  std::string scheme;
  std::string rest;
  std::map<std::string, std::string, std::less<>> options;

  static Result<Uri> parse(std::string_view text);

  // Takes an option out, so that what stays over can be reported by `reject_unknown`.
  std::string take(std::string_view key, std::string_view otherwise = "");
  Result<uint64_t> take_size(std::string_view key, uint64_t otherwise);
  Result<uint64_t> take_u64(std::string_view key, uint64_t otherwise, uint64_t max = UINT64_MAX);
  Result<uint64_t> take_duration_ns(std::string_view key, uint64_t otherwise);
  Result<bool> take_bool(std::string_view key, bool otherwise);
  Status reject_unknown() const;  // INVALID_ARGUMENT naming the first option nobody took
};

std::string uri_escape(std::string_view text);

// "127.0.0.1:4420", "[::1]:4420", ":4420" (any address), "host" (port 0).
struct HostPort {
  std::string host;
  uint16_t port = 0;

  static Result<HostPort> parse(std::string_view text);
  std::string to_string() const;
};

}  // namespace bb
