// SPDX-License-Identifier: Apache-2.0
#include "backplane/yaml_reader.h"

#include <algorithm>
#include <set>

#include "backplane/nearest.h"
#include "base/units.h"

namespace bb::backplane {
namespace {

// The YAML library counts lines from 0; a node made from nothing has none.
int line_of(const YAML::Node& node) {
  YAML::Mark mark = node.Mark();
  return mark.is_null() ? 1 : mark.line + 1;
}

// Nested brackets recurse in the parser: a hostile file must not exhaust the stack.
constexpr int kNestingMax = 32;

Status check_nesting(std::string_view text, std::string_view file) {
  int depth = 0;
  int line = 1;
  for (char c : text) {
    if (c == '\n') ++line;
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (depth > kNestingMax)
      return error(Code::k_invalid_argument, "{}:{}: more than {} nested brackets", file, line,
                   kNestingMax);
  }
  return ok_status();
}

}  // namespace

YamlMap::YamlMap(YAML::Node node, std::string where, std::string_view file)
    : node_(node), where_(std::move(where)), file_(file) {
  if (!node_.IsMap()) fail(node_, "not a mapping of keys to values");
}

int YamlMap::line() const { return line_of(node_); }

void YamlMap::fail(const YAML::Node& node, std::string_view text) {
  if (!status_.ok()) return;
  std::string_view colon = where_.empty() ? "" : ": ";
  status_ =
      error(Code::k_invalid_argument, "{}:{}: {}{}{}", file_, line_of(node), where_, colon, text);
}

YAML::Node YamlMap::take(std::string_view key, bool required) {
  known_.push_back(key);
  if (node_.IsMap()) {
    for (const auto& entry : node_)
      if (entry.first.IsScalar() && entry.first.Scalar() == key) return entry.second;
  }
  // Not yet an error: a key nobody knows tells more about what was meant.
  if (required && missing_.empty()) missing_ = key;
  return YAML::Node(YAML::NodeType::Undefined);
}

std::string YamlMap::text(std::string_view key, bool required, size_t max_bytes) {
  YAML::Node node = take(key, required);
  if (!node.IsDefined()) return "";
  if (!node.IsScalar()) {
    fail(node, fmt::format("\"{}\" is not one value", key));
    return "";
  }
  const std::string& value = node.Scalar();
  if (value.size() > max_bytes)
    fail(node, fmt::format("\"{}\" has {} bytes (max {})", key, value.size(), max_bytes));
  if (value.empty() && required) fail(node, fmt::format("\"{}\" is empty", key));
  if (std::any_of(value.begin(), value.end(), [](char c) { return c >= 0 && c < 0x20; }))
    fail(node, fmt::format("\"{}\" has control characters", key));
  return value;
}

uint64_t YamlMap::size_bytes(std::string_view key) {
  std::string value = text(key);
  if (value.empty()) return 0;
  Result<uint64_t> size = parse_size_bytes(value);
  if (!size.ok()) {
    fail(take(key, false), fmt::format("\"{}\": {}", key, size.status().text()));
    return 0;
  }
  return *size;
}

bool YamlMap::boolean(std::string_view key) {
  std::string value = text(key);
  if (!value.empty() && value != "true" && value != "false")
    fail(take(key, false), fmt::format("\"{}\" is neither true nor false", key));
  return value == "true";
}

std::vector<std::string> YamlMap::texts(std::string_view key, size_t max) {
  YAML::Node node = take(key, false);
  std::vector<std::string> values;
  if (!node.IsDefined()) return values;
  if (node.IsScalar()) return {text(key)};
  if (!node.IsSequence()) {
    fail(node, fmt::format("\"{}\" is not a list", key));
    return values;
  }
  if (node.size() > max)
    fail(node, fmt::format("\"{}\" has {} entries (max {})", key, node.size(), max));
  for (const auto& one : node) {
    if (!one.IsScalar() || one.Scalar().empty() || one.Scalar().size() > 1024) {
      fail(one, fmt::format("an entry of \"{}\" is not a text of 1 to 1024 bytes", key));
      return {};
    }
    values.push_back(one.Scalar());
  }
  return values;
}

std::vector<YamlMap> YamlMap::maps(std::string_view key, size_t max, bool required) {
  YAML::Node node = take(key, required);
  std::vector<YamlMap> values;
  if (!node.IsDefined()) return values;
  if (!node.IsSequence()) {
    fail(node, fmt::format("\"{}\" is not a list", key));
    return values;
  }
  if (required && node.size() == 0) fail(node, fmt::format("\"{}\" is empty", key));
  if (node.size() > max) {
    fail(node, fmt::format("\"{}\" has {} entries (max {})", key, node.size(), max));
    return values;
  }
  for (const auto& one : node)
    values.emplace_back(one, fmt::format("{} {}", key, values.size() + 1), file_);
  return values;
}

std::optional<YamlMap> YamlMap::map(std::string_view key) {
  YAML::Node node = take(key, false);
  if (!node.IsDefined()) return std::nullopt;
  if (!node.IsMap()) {
    fail(node, fmt::format("\"{}\" is not a mapping", key));
    return std::nullopt;
  }
  return YamlMap(node, std::string(key), file_);
}

Status YamlMap::finish() {
  std::set<std::string> seen;
  if (node_.IsMap()) {
    for (const auto& entry : node_) {
      if (!entry.first.IsScalar()) {
        fail(entry.first, "a key that is not a text");
        continue;
      }
      const std::string& key = entry.first.Scalar();
      if (std::find(known_.begin(), known_.end(), key) == known_.end())
        fail(entry.first, unknown_word("key", key, known_));
      if (!seen.insert(key).second) fail(entry.first, fmt::format("\"{}\" is there twice", key));
    }
  }
  if (!missing_.empty()) fail(node_, fmt::format("\"{}\" is missing", missing_));
  return status_;
}

Status YamlMap::at(std::string_view key, const Status& why) {
  YAML::Node node = take(key, false);
  return why.with_context(
      fmt::format("{}:{}: {}", file_, node.IsDefined() ? line_of(node) : line(), key));
}

Result<YamlMap> load_yaml_map(std::string_view text, std::string_view file, size_t max_bytes) {
  if (text.size() > max_bytes)
    return error(Code::k_invalid_argument, "{}: {} bytes (max {})", file, text.size(), max_bytes);
  BB_TRY(check_nesting(text, file));
  try {
    YAML::Node node = YAML::Load(std::string(text));
    if (!node.IsMap())
      return error(Code::k_invalid_argument, "{}:{}: not a mapping of keys to values", file,
                   line_of(node));
    return YamlMap(node, "", file);
  } catch (const YAML::Exception& problem) {
    int line = problem.mark.is_null() ? 1 : problem.mark.line + 1;
    return error(Code::k_invalid_argument, "{}:{}: {}", file, line, problem.msg);
  } catch (const std::exception& problem) {
    return error(Code::k_invalid_argument, "{}:1: {}", file, problem.what());
  }
}

}  // namespace bb::backplane
