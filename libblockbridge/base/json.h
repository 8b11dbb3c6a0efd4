// SPDX-License-Identifier: Apache-2.0
// pure: values only
#pragma once

#include <nlohmann/json_fwd.hpp>  // who touches values includes json.hpp, a second to compile
#include <set>
#include <string>
#include <string_view>

#include "base/status.h"

namespace bb {

using Json = nlohmann::json;

inline constexpr uint32_t kJsonDepthMax = 32;

// Text from outside to a value: bounded depth, no exceptions, INVALID_ARGUMENT with the byte where
// it stops being JSON. The caller bounds the length.
Result<Json> parse_json(std::string_view text, uint32_t depth_max = kJsonDepthMax);

// One line, keys sorted; bytes that are not UTF-8 become U+FFFD, because JSON has no other way.
std::string dump_json(const Json& value);

// Reads the fields of an object that came from outside: checks types and limits, remembers which
// fields were asked for so that a misspelled one is reported. Borrows the value.
class JsonFields {
 public:
  // `what` opens the texts: `array.create: field "name" is missing`.
  static Result<JsonFields> of(const Json& value, std::string_view what);

  bool has(std::string_view key) const;  // present and not null
  Result<std::string> text(std::string_view key, size_t length_max = 4096);
  Result<std::string> text_or(std::string_view key, std::string_view otherwise,
                              size_t length_max = 4096);
  Result<uint64_t> u64(std::string_view key, uint64_t max = UINT64_MAX);
  Result<uint64_t> u64_or(std::string_view key, uint64_t otherwise, uint64_t max = UINT64_MAX);
  Result<bool> boolean(std::string_view key);
  Result<bool> boolean_or(std::string_view key, bool otherwise);
  Result<const Json*> list(std::string_view key, size_t count_max = 1024);
  Result<const Json*> object(std::string_view key);
  Status reject_unknown() const;

 private:
  JsonFields(const Json& value, std::string_view what) : value_(&value), what_(what) {}
  const Json* find(std::string_view key);
  Status missing(std::string_view key) const;
  Status wrong(std::string_view key, std::string_view expected) const;

  const Json* value_;
  std::string what_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace bb
