// SPDX-License-Identifier: Apache-2.0
// pure: text in, values out
#pragma once

#include <yaml-cpp/yaml.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace bb::backplane {

// A YAML mapping whose keys are taken one by one; what nobody took is an error with its line. The
// first error stays, so that a caller can take everything and ask once.
class YamlMap {
 public:
  YamlMap(YAML::Node node, std::string where, std::string_view file);

  std::string text(std::string_view key, bool required = false, size_t max_bytes = 1024);
  uint64_t size_bytes(std::string_view key);
  bool boolean(std::string_view key);                                // false when absent
  std::vector<std::string> texts(std::string_view key, size_t max);  // a list, or one value
  std::vector<YamlMap> maps(std::string_view key, size_t max, bool required = false);

  std::optional<YamlMap> map(std::string_view key);  // one mapping; nothing when absent

  // Refuses keys that were not taken, then gives the first error of this map.
  Status finish();
  Status at(std::string_view key, const Status& why);  // an error with the line of the key
  int line() const;

 private:
  YAML::Node take(std::string_view key, bool required);
  void fail(const YAML::Node& node, std::string_view text);

  YAML::Node node_;
  std::string where_;
  std::string file_;
  std::vector<std::string_view> known_;
  std::string missing_;
  Status status_;
};

// The document as a mapping; catches what the YAML library throws.
Result<YamlMap> load_yaml_map(std::string_view text, std::string_view file, size_t max_bytes);

}  // namespace bb::backplane
